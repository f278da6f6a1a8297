/* triton_api.h - what this backend uses of NVIDIA Triton Inference Server's C interface, version
 * 1.19 (server 2.43 and later): opaque handles, values, and functions that the server defines.
 *
 * Declared here because no package installs the official headers, and because those do not compile
 * as C. Where they are installed the build compares the two (check_api.c).
 * Source: Triton's tritonserver.h and tritonbackend.h, whose names these are.
 *
 * An error is NULL or belongs to who receives it: TRITONSERVER_ErrorDelete.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRITON_API_H
#define EMB_TRITON_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef EMB_TRITON_OFFICIAL /* else check_api.c has them from the official headers */
#define EMB_TRITON_TYPE(name) typedef struct name name
EMB_TRITON_TYPE(TRITONSERVER_Error);
EMB_TRITON_TYPE(TRITONSERVER_Message);
EMB_TRITON_TYPE(TRITONSERVER_BufferAttributes);
EMB_TRITON_TYPE(TRITONSERVER_Metric);
EMB_TRITON_TYPE(TRITONSERVER_MetricFamily);
EMB_TRITON_TYPE(TRITONSERVER_Parameter);
EMB_TRITON_TYPE(TRITONBACKEND_Backend);
EMB_TRITON_TYPE(TRITONBACKEND_Model);
EMB_TRITON_TYPE(TRITONBACKEND_ModelInstance);
EMB_TRITON_TYPE(TRITONBACKEND_Request);
EMB_TRITON_TYPE(TRITONBACKEND_Input);
EMB_TRITON_TYPE(TRITONBACKEND_Output);
EMB_TRITON_TYPE(TRITONBACKEND_Response);
EMB_TRITON_TYPE(TRITONBACKEND_Batcher);

enum { TRITONBACKEND_API_VERSION_MAJOR = 1, TRITONBACKEND_API_VERSION_MINOR = 19 };

typedef enum TRITONSERVER_datatype_enum {
    TRITONSERVER_TYPE_INT8 = 6,
    TRITONSERVER_TYPE_INT32 = 8,
    TRITONSERVER_TYPE_INT64 = 9,
    TRITONSERVER_TYPE_FP16 = 10,
    TRITONSERVER_TYPE_FP32 = 11,
    TRITONSERVER_TYPE_BYTES = 13 /* TYPE_STRING of a configuration: strings of stated length */
} TRITONSERVER_DataType;

typedef enum TRITONSERVER_memorytype_enum {
    TRITONSERVER_MEMORY_CPU = 0,
    TRITONSERVER_MEMORY_CPU_PINNED = 1,
    TRITONSERVER_MEMORY_GPU = 2
} TRITONSERVER_MemoryType;

typedef enum TRITONSERVER_loglevel_enum {
    TRITONSERVER_LOG_INFO = 0,
    TRITONSERVER_LOG_WARN = 1,
    TRITONSERVER_LOG_ERROR = 2,
    TRITONSERVER_LOG_VERBOSE = 3
} TRITONSERVER_LogLevel;

typedef enum TRITONSERVER_errorcode_enum {
    TRITONSERVER_ERROR_UNKNOWN = 0,
    TRITONSERVER_ERROR_INTERNAL = 1,
    TRITONSERVER_ERROR_NOT_FOUND = 2,
    TRITONSERVER_ERROR_INVALID_ARG = 3,
    TRITONSERVER_ERROR_UNAVAILABLE = 4,
    TRITONSERVER_ERROR_UNSUPPORTED = 5,
    TRITONSERVER_ERROR_ALREADY_EXISTS = 6,
    TRITONSERVER_ERROR_CANCELLED = 7
} TRITONSERVER_Error_Code;

typedef enum TRITONBACKEND_artifacttype_enum {
    TRITONBACKEND_ARTIFACT_FILESYSTEM = 0
} TRITONBACKEND_ArtifactType;

typedef enum TRITONSERVER_metrickind_enum {
    TRITONSERVER_METRIC_KIND_COUNTER = 0,
    TRITONSERVER_METRIC_KIND_GAUGE = 1
} TRITONSERVER_MetricKind;

typedef enum TRITONSERVER_parametertype_enum {
    TRITONSERVER_PARAMETER_STRING = 0
} TRITONSERVER_ParameterType;

enum { TRITONSERVER_REQUEST_RELEASE_ALL = 1, TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1 };
#endif

typedef TRITONSERVER_Error *emb_triton_error;

/* ---- the server's functions ------------------------------------------------------------------ */

extern emb_triton_error TRITONSERVER_ErrorNew(TRITONSERVER_Error_Code code, const char *message);
extern void TRITONSERVER_ErrorDelete(TRITONSERVER_Error *error);
extern const char *TRITONSERVER_ErrorMessage(TRITONSERVER_Error *error);
extern emb_triton_error TRITONSERVER_LogMessage(TRITONSERVER_LogLevel level, const char *file,
                                                const int line, const char *message);

/* Points into the message. */
extern emb_triton_error TRITONSERVER_MessageSerializeToJson(TRITONSERVER_Message *message,
                                                            const char **base, size_t *bytes);
extern emb_triton_error TRITONSERVER_MessageDelete(TRITONSERVER_Message *message);

extern emb_triton_error
TRITONSERVER_BufferAttributesNew(TRITONSERVER_BufferAttributes **attributes);
extern emb_triton_error
TRITONSERVER_BufferAttributesDelete(TRITONSERVER_BufferAttributes *attributes);
extern emb_triton_error
TRITONSERVER_BufferAttributesSetMemoryType(TRITONSERVER_BufferAttributes *attributes,
                                           TRITONSERVER_MemoryType kind);
extern emb_triton_error
TRITONSERVER_BufferAttributesSetMemoryTypeId(TRITONSERVER_BufferAttributes *attributes, int64_t id);
extern emb_triton_error
TRITONSERVER_BufferAttributesSetByteSize(TRITONSERVER_BufferAttributes *attributes, size_t bytes);

extern TRITONSERVER_Parameter *TRITONSERVER_ParameterNew(const char *name,
                                                         const TRITONSERVER_ParameterType type,
                                                         const void *value);
extern void TRITONSERVER_ParameterDelete(TRITONSERVER_Parameter *parameter);

/* Families of one name share one; so do metrics of the same labels. */
extern emb_triton_error TRITONSERVER_MetricFamilyNew(TRITONSERVER_MetricFamily **family,
                                                     const TRITONSERVER_MetricKind kind,
                                                     const char *name, const char *description);
extern emb_triton_error TRITONSERVER_MetricFamilyDelete(TRITONSERVER_MetricFamily *family);
extern emb_triton_error TRITONSERVER_MetricNew(TRITONSERVER_Metric **metric,
                                               TRITONSERVER_MetricFamily *family,
                                               const TRITONSERVER_Parameter **labels,
                                               const uint64_t labels_count);
extern emb_triton_error TRITONSERVER_MetricDelete(TRITONSERVER_Metric *metric);
extern emb_triton_error TRITONSERVER_MetricIncrement(TRITONSERVER_Metric *metric, double value);
extern emb_triton_error TRITONSERVER_MetricSet(TRITONSERVER_Metric *metric, double value);

extern emb_triton_error TRITONBACKEND_ApiVersion(uint32_t *major, uint32_t *minor);

extern emb_triton_error TRITONBACKEND_ModelName(TRITONBACKEND_Model *model, const char **name);
extern emb_triton_error TRITONBACKEND_ModelVersion(TRITONBACKEND_Model *model, uint64_t *version);
extern emb_triton_error TRITONBACKEND_ModelRepository(TRITONBACKEND_Model *model,
                                                      TRITONBACKEND_ArtifactType *kind,
                                                      const char **location);
/* The caller deletes the message. config_version: 1. */
extern emb_triton_error TRITONBACKEND_ModelConfig(TRITONBACKEND_Model *model,
                                                  const uint32_t config_version,
                                                  TRITONSERVER_Message **config);
extern emb_triton_error TRITONBACKEND_ModelState(TRITONBACKEND_Model *model, void **state);
extern emb_triton_error TRITONBACKEND_ModelSetState(TRITONBACKEND_Model *model, void *state);
/* Copies what it is given. */
extern emb_triton_error TRITONBACKEND_ModelReportMemoryUsage(TRITONBACKEND_Model *model,
                                                             TRITONSERVER_BufferAttributes **usage,
                                                             uint32_t usage_count);

extern emb_triton_error TRITONBACKEND_ModelInstanceModel(TRITONBACKEND_ModelInstance *instance,
                                                         TRITONBACKEND_Model **model);
/* Times are of the monotonic clock, in nanoseconds. */
extern emb_triton_error
TRITONBACKEND_ModelInstanceReportStatistics(TRITONBACKEND_ModelInstance *instance,
                                            TRITONBACKEND_Request *request, const bool success,
                                            const uint64_t exec_start, const uint64_t compute_start,
                                            const uint64_t compute_end, const uint64_t exec_end);
extern emb_triton_error TRITONBACKEND_ModelInstanceReportBatchStatistics(
    TRITONBACKEND_ModelInstance *instance, const uint64_t batch_size, const uint64_t exec_start,
    const uint64_t compute_start, const uint64_t compute_end, const uint64_t exec_end);

extern emb_triton_error TRITONBACKEND_RequestInputCount(TRITONBACKEND_Request *request,
                                                        uint32_t *count);
extern emb_triton_error TRITONBACKEND_RequestInputByIndex(TRITONBACKEND_Request *request,
                                                          const uint32_t index,
                                                          TRITONBACKEND_Input **input);
extern emb_triton_error TRITONBACKEND_RequestIsCancelled(TRITONBACKEND_Request *request,
                                                         bool *cancelled);
/* After it the request and its inputs are gone. */
extern emb_triton_error TRITONBACKEND_RequestRelease(TRITONBACKEND_Request *request,
                                                     uint32_t flags);

/* All but `input` may be NULL. */
extern emb_triton_error TRITONBACKEND_InputProperties(TRITONBACKEND_Input *input, const char **name,
                                                      TRITONSERVER_DataType *datatype,
                                                      const int64_t **shape, uint32_t *dims_count,
                                                      uint64_t *byte_size, uint32_t *buffer_count);
/* memory_type and memory_type_id: what is preferred, then what it is. */
extern emb_triton_error TRITONBACKEND_InputBuffer(TRITONBACKEND_Input *input, const uint32_t index,
                                                  const void **buffer, uint64_t *bytes,
                                                  TRITONSERVER_MemoryType *memory_type,
                                                  int64_t *memory_type_id);

extern emb_triton_error TRITONBACKEND_ResponseNew(TRITONBACKEND_Response **response,
                                                  TRITONBACKEND_Request *request);
extern emb_triton_error
TRITONBACKEND_ResponseOutput(TRITONBACKEND_Response *response, TRITONBACKEND_Output **output,
                             const char *name, const TRITONSERVER_DataType datatype,
                             const int64_t *shape, const uint32_t dims_count);
/* Uninitialised; the response's. */
extern emb_triton_error TRITONBACKEND_OutputBuffer(TRITONBACKEND_Output *output, void **buffer,
                                                   const uint64_t bytes,
                                                   TRITONSERVER_MemoryType *memory_type,
                                                   int64_t *memory_type_id);
/* Takes the response, but copies the error. */
extern emb_triton_error TRITONBACKEND_ResponseSend(TRITONBACKEND_Response *response,
                                                   const uint32_t flags, TRITONSERVER_Error *error);

/* ---- the backend's functions, called by the server ------------------------------------------- */

extern emb_triton_error TRITONBACKEND_Initialize(TRITONBACKEND_Backend *backend);
extern emb_triton_error TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model *model);
/* Also after ModelInitialize has failed. */
extern emb_triton_error TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model *model);
/* With NULL the requests are the backend's, to be answered once each and released; else the
 * server's. Threads: one for each instance. */
extern emb_triton_error TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance *instance,
                                                           TRITONBACKEND_Request **requests,
                                                           const uint32_t request_count);

/* ---- a batching strategy's functions --------------------------------------------------------- */

extern emb_triton_error TRITONBACKEND_ModelBatcherInitialize(TRITONBACKEND_Batcher **batcher,
                                                             TRITONBACKEND_Model *model);
extern emb_triton_error TRITONBACKEND_ModelBatcherFinalize(TRITONBACKEND_Batcher *batcher);
extern emb_triton_error TRITONBACKEND_ModelBatchInitialize(const TRITONBACKEND_Batcher *batcher,
                                                           void **user);
extern emb_triton_error TRITONBACKEND_ModelBatchIncludeRequest(TRITONBACKEND_Request *request,
                                                               void *user, bool *should_include);
extern emb_triton_error TRITONBACKEND_ModelBatchFinalize(void *user);

#endif
