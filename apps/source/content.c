/* content.c - recognises formats that are not text, by their first bytes and by their suffix.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "source/content.h"

#include <stdbool.h>
#include <string.h>

#include "fail.h"
#include "suffix.h"

typedef enum kind {
    GZIP,
    BZIP2,
    XZ,
    ZSTD,
    ARCHIVE,
    PDF,
    OFFICE,
    PARQUET,
    ARROW,
    NUMPY,
    TENSORS,
    DATABASE,
    PICTURE,
    SOUND,
    PROGRAM,
    JSON,
    OTHER
} kind;

static const char *const advices[] = {
    [GZIP] = "compressed; use: zcat FILE | embound ... -i - --input-format F",
    [BZIP2] = "compressed; use: bzcat FILE | embound ... -i - --input-format F",
    [XZ] = "compressed; use: xzcat FILE | embound ... -i - --input-format F",
    [ZSTD] = "compressed; use: zstdcat FILE | embound ... -i - --input-format F",
    [ARCHIVE] = "an archive (or an office document, which is one); unpack it, or save its text",
    [PDF] = "a PDF document; take its text out of it: pdftotext FILE -",
    [OFFICE] = "an office document; save it as text or as CSV in UTF-8",
    [PARQUET] = "Parquet is read by Python's embound.encode_parquet; or make .jsonl or .csv of it",
    [ARROW] = "Arrow is read by the Python package; or make .jsonl or .csv of it",
    [NUMPY] = "these are vectors, not texts",
    [TENSORS] = "these are tensors, not texts",
    [DATABASE] = "databases are not read; export a table to .jsonl or .csv",
    [PICTURE] = "a picture, not texts",
    [SOUND] = "sound or film, not texts",
    [PROGRAM] = "a program, not texts",
    [JSON] = "a JSON document is not read; write one object a line (.jsonl): jq -c '.[]' FILE",
    [OTHER] = "a binary file, not texts",
};

static const struct {
    const char *suffix;
    kind kind;
} suffixes[] = {
    {".gz", GZIP},          {".tgz", ARCHIVE},     {".bz2", BZIP2},     {".xz", XZ},
    {".zst", ZSTD},         {".zip", ARCHIVE},     {".7z", ARCHIVE},    {".rar", ARCHIVE},
    {".tar", ARCHIVE},      {".pdf", PDF},         {".doc", OFFICE},    {".docx", OFFICE},
    {".xls", OFFICE},       {".xlsx", OFFICE},     {".ppt", OFFICE},    {".pptx", OFFICE},
    {".odt", OFFICE},       {".ods", OFFICE},      {".rtf", OFFICE},    {".epub", OFFICE},
    {".parquet", PARQUET},  {".arrow", ARROW},     {".feather", ARROW}, {".avro", OTHER},
    {".orc", OTHER},        {".npy", NUMPY},       {".npz", NUMPY},     {".safetensors", TENSORS},
    {".gguf", TENSORS},     {".onnx", TENSORS},    {".pt", TENSORS},    {".pth", TENSORS},
    {".ckpt", TENSORS},     {".bin", OTHER},       {".pkl", OTHER},     {".pickle", OTHER},
    {".h5", OTHER},         {".hdf5", OTHER},      {".db", DATABASE},   {".sqlite", DATABASE},
    {".sqlite3", DATABASE}, {".duckdb", DATABASE}, {".png", PICTURE},   {".jpg", PICTURE},
    {".jpeg", PICTURE},     {".gif", PICTURE},     {".webp", PICTURE},  {".tif", PICTURE},
    {".tiff", PICTURE},     {".mp3", SOUND},       {".wav", SOUND},     {".flac", SOUND},
    {".mp4", SOUND},        {".so", PROGRAM},      {".exe", PROGRAM},   {".json", JSON},
};

/* Magic bytes. `sure`: no text begins with them; for the others a NUL byte decides. */
static const struct {
    const char *bytes;
    size_t length;
    kind kind;
    bool sure;
} beginnings[] = {
    {"\x1F\x8B", 2, GZIP, true},
    {"BZh", 3, BZIP2, false},
    {"\xFD\x37zXZ", 5, XZ, true},
    {"\x28\xB5\x2F\xFD", 4, ZSTD, true},
    {"PK\x03\x04", 4, ARCHIVE, true},
    {"PK\x05\x06", 4, ARCHIVE, true},
    {"7z\xBC\xAF\x27\x1C", 6, ARCHIVE, true},
    {"Rar!\x1A\x07", 6, ARCHIVE, true},
    {"%PDF-", 5, PDF, true},
    {"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", 8, OFFICE, true},
    {"{\\rtf", 5, OFFICE, true},
    {"PAR1", 4, PARQUET, false},
    {"ARROW1", 6, ARROW, false},
    {"\x93NUMPY", 6, NUMPY, true},
    {"GGUF", 4, TENSORS, false},
    {"SQLite format 3", 15, DATABASE, false},
    {"\x89PNG", 4, PICTURE, true},
    {"\xFF\xD8\xFF", 3, PICTURE, true},
    {"GIF8", 4, PICTURE, false},
    {"RIFF", 4, SOUND, false},
    {"\177ELF", 4, PROGRAM, true},
    {"\x80\x04\x95", 3, OTHER, true},
    {"\x89HDF", 4, OTHER, true},
    {"Obj\x01", 4, OTHER, true},
    {"ORC", 3, OTHER, false},
};

#define COUNT(list) (sizeof(list) / sizeof(list)[0])

emb_status emb_content_check_name(const char *path, emb_error *error) {
    for (size_t i = 0; i < COUNT(suffixes); i++) {
        if (!emb_app_has_suffix(path, suffixes[i].suffix)) continue;
        return emb_app_fail(error, EMB_INVALID_ARGUMENT,
                            "%s: %s (if it is text: state --input-format)", emb_app_path_tail(path),
                            advices[suffixes[i].kind]);
    }
    return EMB_OK;
}

static emb_status refuse_utf(const char *name, const char *encoding, emb_error *error) {
    return emb_app_fail(error, EMB_BAD_FILE,
                        "%s: this is %s, and text is read as UTF-8; convert it: iconv -f %s "
                        "-t UTF-8 FILE",
                        emb_app_path_tail(name), encoding, encoding);
}

static const char *encoding_of_mark(const unsigned char *bytes, size_t length) {
    if (length < 2) return NULL;
    if (length >= 4 && memcmp(bytes, "\xFF\xFE\0\0", 4) == 0) return "UTF-32";
    if (length >= 4 && memcmp(bytes, "\0\0\xFE\xFF", 4) == 0) return "UTF-32";
    if (memcmp(bytes, "\xFF\xFE", 2) == 0 || memcmp(bytes, "\xFE\xFF", 2) == 0) return "UTF-16";
    return NULL;
}

/* Without a byte order mark the NUL bytes decide: characters below 256 have theirs at fixed
 * places. */
static const char *encoding_of_nuls(const unsigned char *bytes, size_t length) {
    size_t nuls[4] = {0}, quads = length / 4, pairs = length / 2;
    for (size_t i = 0; i < pairs * 2; i++) nuls[i % 4] += bytes[i] == 0;
    size_t most = quads - quads / 8; /* nearly all */
    if (quads && nuls[0] >= most && nuls[1] >= most && nuls[2] >= most) return "UTF-32BE";
    if (quads && nuls[1] >= most && nuls[2] >= most && nuls[3] >= most) return "UTF-32LE";
    size_t even = nuls[0] + nuls[2], odd = nuls[1] + nuls[3];
    if (odd * 2 > pairs && even * 8 <= odd) return "UTF-16LE";
    if (even * 2 > pairs && odd * 8 <= even) return "UTF-16BE";
    return NULL;
}

/* The length of a header below 16 MiB, then the header. */
static bool is_safetensors(const unsigned char *bytes, size_t length) {
    return length > 9 && memcmp(bytes + 3, "\0\0\0\0\0{", 6) == 0;
}

emb_status emb_content_check(const char *name, const unsigned char *bytes, size_t length,
                             emb_error *error) {
    if (length > EMB_CONTENT_BYTES) length = EMB_CONTENT_BYTES;
    const char *encoding = encoding_of_mark(bytes, length);
    if (encoding) return refuse_utf(name, encoding, error);
    const unsigned char *nul = memchr(bytes, 0, length);
    for (size_t i = 0; i < COUNT(beginnings); i++) {
        bool there = length >= beginnings[i].length &&
                     memcmp(bytes, beginnings[i].bytes, beginnings[i].length) == 0;
        if (!there || !(beginnings[i].sure || nul)) continue;
        return emb_app_fail(error, EMB_BAD_FILE, "%s: %s", emb_app_path_tail(name),
                            advices[beginnings[i].kind]);
    }
    if (!nul) return EMB_OK;
    if (is_safetensors(bytes, length))
        return emb_app_fail(error, EMB_BAD_FILE, "%s: %s", emb_app_path_tail(name),
                            advices[TENSORS]);
    encoding = encoding_of_nuls(bytes, length);
    if (encoding) return refuse_utf(name, encoding, error);
    return emb_app_fail(error, EMB_BAD_FILE,
                        "%s: no text, byte %zu is NUL; of UTF-16 make UTF-8 with iconv, and "
                        "remove single NUL bytes with: tr -d '\\000' < FILE",
                        emb_app_path_tail(name), (size_t)(nul - bytes) + 1);
}
