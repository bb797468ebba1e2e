/* Stand-ins for libnvidia-ml, libcuda and libnvidia-encode: one GPU, whose state is in the file that
 * BLACKSTART_STANDIN_GPU names and is shared by all processes. What a dead process held is free again, as the driver
 * would have it. Without that variable there is no driver. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <ffnvcodec/nvEncodeAPI.h>

#define SLOTS 32
#define SESSIONS_MAX 5
#define UUID "GPU-5b1ac457-0000-4000-8000-000000000001"
#define MB (1024ULL * 1024ULL)

typedef struct {
    unsigned magic, limit, default_limit, least, most, clock_lo, clock_hi, clock_max;
    unsigned long long memory;
    struct { int pid; unsigned sessions; unsigned long long bytes; } slot[SLOTS];
} gpu_t;

static int alive(int pid) {
    char path[64], state = 'X';
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (fscanf(file, "%*d %*[^)]) %c", &state) != 1) state = 'X';
    fclose(file);
    return state != 'Z' && state != 'X';
}

static gpu_t *gpu(void) {
    static gpu_t *mapped;
    static char known[512];
    const char *path = getenv("BLACKSTART_STANDIN_GPU");
    if (!path) return NULL;
    if (!mapped || strcmp(path, known)) {
        int fd = open(path, O_RDWR | O_CREAT, 0600);
        if (fd < 0 || ftruncate(fd, sizeof(gpu_t))) return NULL;
        mapped = mmap(NULL, sizeof(gpu_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        strncpy(known, path, sizeof known - 1);
        if (mapped->magic != 0xb1ac)
            *mapped = (gpu_t){.magic = 0xb1ac, .limit = 72000, .default_limit = 72000, .least = 40000, .most = 75000,
                              .clock_max = 2040, .memory = 24576 * MB};
    }
    for (int i = 0; i < SLOTS; i++)
        if (mapped->slot[i].pid && !alive(mapped->slot[i].pid)) memset(&mapped->slot[i], 0, sizeof mapped->slot[i]);
    return mapped;
}

static int mine(gpu_t *g) {
    int pid = getpid(), empty = -1;
    for (int i = 0; i < SLOTS; i++) {
        if (g->slot[i].pid == pid) return i;
        if (!g->slot[i].pid && empty < 0) empty = i;
    }
    if (empty >= 0) g->slot[empty].pid = pid;
    return empty;
}

static unsigned long long used(gpu_t *g) {
    unsigned long long sum = 0;
    for (int i = 0; i < SLOTS; i++) sum += g->slot[i].bytes;
    return sum;
}

static unsigned sessions(gpu_t *g) {
    unsigned sum = 0;
    for (int i = 0; i < SLOTS; i++) sum += g->slot[i].sessions;
    return sum;
}

/* nvml.h: 0 is success, 2 a wrong argument, 9 no driver */
int nvmlInitWithFlags(unsigned flags) { (void)flags; return gpu() ? 0 : 9; }
int nvmlInit_v2(void) { return gpu() ? 0 : 9; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return code == 9 ? "Driver Not Loaded" : "stand-in error"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = gpu(); return index ? 2 : 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) { *device = gpu(); return strcmp(uuid, UUID) ? 6 : 0; }
int nvmlDeviceGetUUID(void *d, char *text, unsigned size) { (void)d; strncpy(text, UUID, size); return 0; }
int nvmlDeviceGetName(void *d, char *text, unsigned size) { (void)d; strncpy(text, "stand-in GPU", size); return 0; }
int nvmlDeviceGetPowerManagementLimit(gpu_t *g, unsigned *mw) { *mw = g->limit; return 0; }
int nvmlDeviceGetEnforcedPowerLimit(gpu_t *g, unsigned *mw) { *mw = g->limit; return 0; }
int nvmlDeviceGetPowerManagementDefaultLimit(gpu_t *g, unsigned *mw) { *mw = g->default_limit; return 0; }
int nvmlDeviceGetPowerManagementLimitConstraints(gpu_t *g, unsigned *lo, unsigned *hi) {
    *lo = g->least; *hi = g->most; return 0;
}
int nvmlDeviceSetPowerManagementLimit(gpu_t *g, unsigned mw) {
    if (mw < g->least || mw > g->most) return 2;
    g->limit = mw; return 0;
}
int nvmlDeviceSetGpuLockedClocks(gpu_t *g, unsigned lo, unsigned hi) { g->clock_lo = lo; g->clock_hi = hi; return 0; }
int nvmlDeviceResetGpuLockedClocks(gpu_t *g) { g->clock_lo = g->clock_hi = 0; return 0; }
int nvmlDeviceGetMaxClockInfo(gpu_t *g, int type, unsigned *mhz) { (void)type; *mhz = g->clock_max; return 0; }
int nvmlDeviceGetClockInfo(gpu_t *g, int type, unsigned *mhz) {
    (void)type; *mhz = g->clock_hi ? g->clock_hi : g->clock_max; return 0;
}
typedef struct { unsigned long long total, free, used; } memory_t;
int nvmlDeviceGetMemoryInfo(gpu_t *g, memory_t *m) {
    m->total = g->memory; m->used = used(g); m->free = m->total - m->used; return 0;
}
typedef struct { unsigned pid; unsigned long long bytes; unsigned instance, compute; } process_t;
int nvmlDeviceGetComputeRunningProcesses_v3(gpu_t *g, unsigned *count, process_t *rows) {
    unsigned n = 0, room = *count;
    for (int i = 0; i < SLOTS; i++)
        if (g->slot[i].pid) { if (n < room) rows[n] = (process_t){g->slot[i].pid, g->slot[i].bytes, 0, 0}; n++; }
    *count = n;
    return n > room ? 7 : 0;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(gpu_t *g, unsigned *count, process_t *rows) {
    (void)g; (void)rows; *count = 0; return 0;
}
int nvmlDeviceGetEncoderStats(gpu_t *g, unsigned *count, unsigned *fps, unsigned *latency_us) {
    *count = sessions(g); *fps = *latency_us = 0; return 0;
}

/* what it shows while it works; energy grows by 50 W. 10 is a timeout: BLACKSTART_STANDIN_XID is told of once */
typedef struct { unsigned gpu, memory; } utilization_t;
int nvmlDeviceGetUtilizationRates(gpu_t *g, utilization_t *u) { (void)g; u->gpu = 37; u->memory = 5; return 0; }
int nvmlDeviceGetEncoderUtilization(gpu_t *g, unsigned *share, unsigned *period) {
    (void)g; *share = 55; *period = 166000; return 0;
}
int nvmlDeviceGetDecoderUtilization(gpu_t *g, unsigned *share, unsigned *period) {
    (void)g; (void)share; (void)period; return 3; /* not supported */
}
int nvmlDeviceGetPowerUsage(gpu_t *g, unsigned *mw) { *mw = g->limit < 50000 ? g->limit : 50000; return 0; }
int nvmlDeviceGetCurrentClocksThrottleReasons(gpu_t *g, unsigned long long *bits) {
    *bits = g->limit < g->default_limit ? 0x4 : 0x1; return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(gpu_t *g, unsigned long long *mj) {
    struct timespec now;
    (void)g; clock_gettime(CLOCK_MONOTONIC, &now);
    *mj = (now.tv_sec * 1000ULL + now.tv_nsec / 1000000) * 50; return 0;
}
int nvmlDeviceGetTotalEccErrors(gpu_t *g, int type, int counter, unsigned long long *count) {
    (void)g; (void)type; (void)counter; *count = 0; return 0;
}
typedef struct { void *device; unsigned long long type, data; unsigned instance, compute; } event_t;
int nvmlEventSetCreate(void **set) { *set = calloc(1, sizeof(int)); return 0; }
int nvmlDeviceRegisterEvents(gpu_t *g, unsigned long long types, void *set) { (void)g; (void)types; (void)set; return 0; }
int nvmlEventSetWait_v2(void *set, event_t *event, unsigned timeout_ms) {
    const char *xid = getenv("BLACKSTART_STANDIN_XID");
    (void)timeout_ms;
    if (!xid || (*(int *)set)++) return 10;
    *event = (event_t){gpu(), 8, strtoull(xid, NULL, 10), 0, 0}; return 0;
}
int nvmlEventSetFree(void *set) { free(set); return 0; }

/* cuda.h: 0 is success, 2 out of memory, 100 no device */
int cuInit(unsigned flags) { (void)flags; return gpu() ? 0 : 100; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal ? 101 : 0; }
int cuDeviceGetUuid(unsigned char *uuid, int device) {
    static const unsigned char bytes[16] = {0x5b, 0x1a, 0xc4, 0x57, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 1};
    (void)device; memcpy(uuid, bytes, 16); return 0;
}
int cuCtxCreate_v2(void **context, unsigned flags, int device) {
    (void)flags; (void)device; *context = gpu(); return mine(gpu()) < 0 ? 2 : 0;
}
int cuMemGetInfo_v2(size_t *free_, size_t *total) {
    gpu_t *g = gpu(); *total = g->memory; *free_ = g->memory - used(g); return 0;
}
int cuMemAlloc_v2(unsigned long long *pointer, size_t size) {
    gpu_t *g = gpu();
    if (used(g) + size > g->memory) return 2;
    g->slot[mine(g)].bytes += size; *pointer = 4096; return 0;
}

static NVENCSTATUS NVENCAPI open_session(NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS *params, void **encoder) {
    gpu_t *g = gpu();
    if (params->deviceType != NV_ENC_DEVICE_TYPE_CUDA || !params->device || !params->apiVersion)
        return NV_ENC_ERR_INVALID_PARAM;
    if ((params->version & 0xff0000) != (1u << 16) || params->version >> 28 != 7) return NV_ENC_ERR_INVALID_VERSION;
    if (sessions(g) >= SESSIONS_MAX) return NV_ENC_ERR_OUT_OF_MEMORY;
    g->slot[mine(g)].sessions++;
    *encoder = g;
    return NV_ENC_SUCCESS;
}
NVENCSTATUS NVENCAPI NvEncodeAPIGetMaxSupportedVersion(uint32_t *version) {
    *version = NVENCAPI_MAJOR_VERSION << 4 | NVENCAPI_MINOR_VERSION; return NV_ENC_SUCCESS;
}
NVENCSTATUS NVENCAPI NvEncodeAPICreateInstance(NV_ENCODE_API_FUNCTION_LIST *list) {
    if ((list->version & 0xff0000) != (2u << 16)) return NV_ENC_ERR_INVALID_VERSION;
    list->nvEncOpenEncodeSessionEx = open_session;
    return NV_ENC_SUCCESS;
}
size_t standin_sizeof_list(void) { return sizeof(NV_ENCODE_API_FUNCTION_LIST); }
size_t standin_sizeof_params(void) { return sizeof(NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS); }
size_t standin_offset_open(void) { return offsetof(NV_ENCODE_API_FUNCTION_LIST, nvEncOpenEncodeSessionEx); }
