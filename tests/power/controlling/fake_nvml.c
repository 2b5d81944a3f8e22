/* A libnvidia-ml.so.1 for tests: the entry points that the controller uses, over a state file that several processes map.
 *
 * FAKE_NVML_STATE names the file; the test makes it (fake_nvml.py has the same layout). Every write to a device is
 * appended to a log in the file before it has its effect, with the process that asked for it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, IN_USE = 19 };
enum { MAX_GPUS = 64, LOG_SIZE = 65536, CLOCK_STEP = 15, LOWEST_CLOCK = 210 };
enum { OP_LOCK = 1, OP_RESET = 2, OP_LIMIT = 3 };

typedef struct {
    uint32_t lost, no_permission, refuse, delay_ms;       /* faults; refuse counts down */
    uint32_t locked_min_mhz, locked_max_mhz;              /* 0: not locked */
    uint32_t limit_mw, default_limit_mw, min_limit_mw, max_limit_mw;
    uint32_t busy, power_mw, max_clock_mhz, temperature_c;
    uint32_t in_write, most_in_write;                     /* writers at the same time, now and ever */
    uint32_t clocks_unsupported, padding;
    uint64_t energy_mj, used_bytes;
    char uuid[64];
} Gpu;

typedef struct {
    uint32_t gpu, op, value, pid;
    uint64_t at_ns;
} Entry;

typedef struct {
    uint32_t num_gpus, driver_missing, log_count, padding;
    Gpu gpus[MAX_GPUS];
    Entry log[LOG_SIZE];
} State;

typedef struct {
    uint32_t field, scope;
    int64_t at, latency;
    uint32_t type, result;
    union { double d; uint32_t u; uint64_t ull; } value;
} Field;

static State *state;
static int initialized;

static int attach(void) {
    static char attached[4096];
    const char *path = getenv("FAKE_NVML_STATE");
    if (!path) return DRIVER_NOT_LOADED;
    if (state && !strcmp(path, attached)) return OK;
    if (state) munmap(state, sizeof(State)); /* the test has named another file since */
    state = NULL;
    strncpy(attached, path, sizeof attached - 1);
    int file = open(path, O_RDWR);
    if (file < 0) return DRIVER_NOT_LOADED;
    void *map = mmap(NULL, sizeof(State), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (map == MAP_FAILED) return DRIVER_NOT_LOADED;
    state = map;
    return OK;
}

static int find(void *handle, Gpu **gpu) {
    if (!initialized || !state) return UNINITIALIZED;
    uintptr_t index = (uintptr_t)handle - 1;
    if (index >= state->num_gpus) return INVALID_ARGUMENT;
    *gpu = &state->gpus[index];
    return (*gpu)->lost ? GPU_IS_LOST : OK;
}

static int write_begin(void *handle, Gpu **gpu, uint32_t op, uint32_t value) {
    int result = find(handle, gpu);
    if (result) return result;
    if ((*gpu)->no_permission) return NO_PERMISSION;
    uint32_t writers = __atomic_add_fetch(&(*gpu)->in_write, 1, __ATOMIC_SEQ_CST);
    uint32_t most = (*gpu)->most_in_write;
    while (writers > most && !__atomic_compare_exchange_n(&(*gpu)->most_in_write, &most, writers, 0, __ATOMIC_SEQ_CST,
                                                          __ATOMIC_SEQ_CST)) {}
    if ((*gpu)->delay_ms) usleep((*gpu)->delay_ms * 1000);
    if ((*gpu)->refuse) {
        (*gpu)->refuse--;
        __atomic_sub_fetch(&(*gpu)->in_write, 1, __ATOMIC_SEQ_CST);
        return IN_USE;
    }
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint32_t at = __atomic_fetch_add(&state->log_count, 1, __ATOMIC_SEQ_CST) % LOG_SIZE;
    state->log[at] = (Entry){(uint32_t)(*gpu - state->gpus), op, value, (uint32_t)getpid(),
                             (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec};
    return OK;
}

static int write_end(Gpu *gpu) {
    __atomic_sub_fetch(&gpu->in_write, 1, __ATOMIC_SEQ_CST);
    return OK;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int result = attach();
    if (result) return result;
    if (state->driver_missing) return DRIVER_NOT_LOADED;
    initialized++;
    return OK;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) {
    if (!initialized) return UNINITIALIZED;
    initialized--;
    return OK;
}

const char *nvmlErrorString(int result) {
    switch (result) {
    case OK: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    case IN_USE: return "In use by another client";
    default: return "Unknown Error";
    }
}

int nvmlSystemGetDriverVersion(char *text, unsigned size) { strncpy(text, "999.0-fake", size); return OK; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    if (!initialized) return UNINITIALIZED;
    *count = state->num_gpus;
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (!initialized) return UNINITIALIZED;
    if (index >= state->num_gpus) return INVALID_ARGUMENT;
    *handle = (void *)(uintptr_t)(index + 1);
    return state->gpus[index].lost ? GPU_IS_LOST : OK;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    if (!initialized) return UNINITIALIZED;
    for (unsigned i = 0; i < state->num_gpus; i++)
        if (!strncmp(uuid, state->gpus[i].uuid, sizeof state->gpus[i].uuid)) return nvmlDeviceGetHandleByIndex_v2(i, handle);
    return NOT_FOUND;
}

int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    Gpu *gpu;
    int result = find(handle, &gpu);
    if (!result) strncpy(text, gpu->uuid, size);
    return result;
}

int nvmlDeviceGetName(void *handle, char *text, unsigned size) {
    Gpu *gpu;
    int result = find(handle, &gpu);
    if (!result) strncpy(text, "Fake A100-SXM4-80GB", size);
    return result;
}

int nvmlDeviceSetGpuLockedClocks(void *handle, unsigned low, unsigned high) {
    Gpu *gpu;
    int result = find(handle, &gpu);
    if (result) return result;
    if (gpu->clocks_unsupported) return NOT_SUPPORTED;
    if (low > high || high < LOWEST_CLOCK || high > gpu->max_clock_mhz) return INVALID_ARGUMENT;
    result = write_begin(handle, &gpu, OP_LOCK, high);
    if (result) return result;
    gpu->locked_min_mhz = low;
    gpu->locked_max_mhz = high - high % CLOCK_STEP;
    return write_end(gpu);
}

int nvmlDeviceResetGpuLockedClocks(void *handle) {
    Gpu *gpu;
    int result = write_begin(handle, &gpu, OP_RESET, 0);
    if (result) return result;
    gpu->locked_min_mhz = gpu->locked_max_mhz = 0;
    return write_end(gpu);
}

int nvmlDeviceSetPowerManagementLimit(void *handle, unsigned limit_mw) {
    Gpu *gpu;
    int result = find(handle, &gpu);
    if (result) return result;
    if (limit_mw < gpu->min_limit_mw || limit_mw > gpu->max_limit_mw) return INVALID_ARGUMENT;
    result = write_begin(handle, &gpu, OP_LIMIT, limit_mw);
    if (result) return result;
    gpu->limit_mw = limit_mw;
    return write_end(gpu);
}

#define GETTER(name, type, expression)                                                                                 \
    int name(void *handle, type *out) {                                                                                \
        Gpu *gpu;                                                                                                      \
        int result = find(handle, &gpu);                                                                               \
        if (!result) *out = (expression);                                                                              \
        return result;                                                                                                 \
    }
GETTER(nvmlDeviceGetPowerManagementLimit, unsigned, gpu->limit_mw)
GETTER(nvmlDeviceGetPowerManagementDefaultLimit, unsigned, gpu->default_limit_mw)
GETTER(nvmlDeviceGetPowerUsage, unsigned, gpu->power_mw)
GETTER(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, gpu->energy_mj)

int nvmlDeviceGetPowerManagementLimitConstraints(void *handle, unsigned *low, unsigned *high) {
    Gpu *gpu;
    int result = find(handle, &gpu);
    if (!result) *low = gpu->min_limit_mw, *high = gpu->max_limit_mw;
    return result;
}

static unsigned clock_of(Gpu *gpu) {
    if (!gpu->busy) return LOWEST_CLOCK;
    return gpu->locked_max_mhz ? gpu->locked_max_mhz : gpu->max_clock_mhz;
}

int nvmlDeviceGetClockInfo(void *handle, int type, unsigned *out) {
    Gpu *gpu;
    int result = find(handle, &gpu);
    if (!result) *out = type == 2 ? 1593 : clock_of(gpu);
    return result;
}

int nvmlDeviceGetMaxClockInfo(void *handle, int type, unsigned *out) {
    Gpu *gpu;
    int result = find(handle, &gpu);
    if (!result) *out = type == 2 ? 1593 : gpu->max_clock_mhz;
    return result;
}

int nvmlDeviceGetSupportedMemoryClocks(void *handle, unsigned *count, unsigned *out) {
    Gpu *gpu;
    int result = find(handle, &gpu);
    if (result) return result;
    unsigned room = *count;
    *count = 1;
    if (room < 1 || !out) return INSUFFICIENT_SIZE;
    out[0] = 1593;
    return OK;
}

int nvmlDeviceGetSupportedGraphicsClocks(void *handle, unsigned memory_mhz, unsigned *count, unsigned *out) {
    Gpu *gpu;
    int result = find(handle, &gpu);
    if (result) return result;
    if (memory_mhz != 1593) return NOT_FOUND;
    unsigned room = *count;
    *count = (gpu->max_clock_mhz - LOWEST_CLOCK) / CLOCK_STEP + 1;
    if (room < *count || !out) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < *count; i++) out[i] = gpu->max_clock_mhz - i * CLOCK_STEP;
    return OK;
}

int nvmlDeviceGetFieldValues(void *handle, int count, Field *fields) {
    Gpu *gpu;
    int result = find(handle, &gpu);
    if (result) return result;
    for (int i = 0; i < count; i++) {
        int known = fields[i].field == 185 || fields[i].field == 186;
        fields[i].result = known ? OK : NOT_SUPPORTED;
        fields[i].type = 1;
        fields[i].value.u = known ? gpu->power_mw : 0;
    }
    return OK;
}

int nvmlDeviceGetUtilizationRates(void *handle, unsigned *out) {
    Gpu *gpu;
    int result = find(handle, &gpu);
    if (!result) out[0] = gpu->busy ? 100 : 0, out[1] = 0;
    return result;
}

int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *out) {
    Gpu *gpu;
    int result = find(handle, &gpu);
    if (!result) *out = gpu->temperature_c;
    (void)sensor;
    return result;
}

int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long *out) {
    Gpu *gpu;
    int result = find(handle, &gpu);
    if (!result) out[0] = 85899345920ull, out[2] = gpu->used_bytes, out[1] = out[0] - out[2];
    return result;
}

int nvmlDeviceGetCurrentClocksEventReasons(void *handle, unsigned long long *out) {
    Gpu *gpu;
    int result = find(handle, &gpu);
    if (!result) *out = gpu->busy ? 0 : 1;
    return result;
}
