/* collective.h - private to the CUDA module: GPUs that train together through NCCL, which is opened
 * at run time. The types are those of NCCL's public interface, as far as it is used here.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_TRAIN_CUDA_HOST_COLLECTIVE_H
#define EMB_TRAIN_CUDA_HOST_COLLECTIVE_H

#include <cuda_runtime_api.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "embound.h"

typedef struct ncclComm *emb_nccl_comm;

/* Values of ncclDataType_t and ncclRedOp_t; ncclSuccess is 0. */
enum { EMB_NCCL_BYTES = 0, EMB_NCCL_F32 = 7, EMB_NCCL_SUM = 0, EMB_NCCL_IN_PROGRESS = 7 };

/* Its functions; those that give an int give a ncclResult_t. */
typedef struct emb_nccl {
    int (*open)(emb_nccl_comm *comms, int count, const int *devices); /* ncclCommInitAll */
    int (*close)(emb_nccl_comm comm);                                 /* ncclCommDestroy */
    int (*abort)(emb_nccl_comm comm);
    int (*error)(emb_nccl_comm comm, int *error); /* ncclCommGetAsyncError */
    int (*begin)(void);                           /* ncclGroupStart */
    int (*end)(void);
    int (*all_reduce)(const void *from, void *to, size_t count, int type, int operation,
                      emb_nccl_comm comm, cudaStream_t stream);
    int (*broadcast)(const void *from, void *to, size_t count, int type, int root,
                     emb_nccl_comm comm, cudaStream_t stream);
    const char *(*text)(int result); /* ncclGetErrorString */
} emb_nccl;

/* A GPU's part in it. */
typedef struct emb_cuda_meeting {
    uint32_t index, count; /* count 0: it trains alone */
    emb_nccl nccl;
    emb_nccl_comm comm; /* NULL again after a failure */
    atomic_bool broken; /* the first one's: one of them failed, none may wait for it */
    atomic_bool *any_broken;
    uint64_t turn;              /* exchanges so far */
    atomic_uint_least64_t come; /* the first one's: how often one came to an exchange */
    atomic_uint_least64_t *all_come;
} emb_cuda_meeting;

#endif
