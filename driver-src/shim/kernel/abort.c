/*
 * abort.c: how the shim breaks off, and stacks.
 */
#include "internal.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <stdlib.h>
#include <unistd.h>

/* AddressSanitizer and ThreadSanitizer bring a symboliser. */
extern void __sanitizer_print_stack_trace(void) __attribute__((weak));

static volatile int g_Aborting;
static char g_Note[256];

void Describe(char *text, size_t size, const void *address) {
    Dl_info info;

    if (dladdr(address, &info) == 0 || info.dli_fname == NULL) {
        snprintf(text, size, "%p", address);
        return;
    }
    const char *slash = strrchr(info.dli_fname, '/');
    snprintf(text, size, "%s+0x%zx%s%s", slash != NULL ? slash + 1 : info.dli_fname,
             (size_t)((const char *)address - (const char *)info.dli_fbase), info.dli_sname != NULL ? " " : "",
             info.dli_sname != NULL ? info.dli_sname : "");
}

void StackDescribe(char *text, size_t size, void *const *frames, ULONG count) {
    size_t used = 0;

    text[0] = '\0';
    for (ULONG i = 0; i < count && frames[i] != NULL && used + 8 < size; i++) {
        char one[160];
        Describe(one, sizeof(one), frames[i]);
        used += (size_t)snprintf(text + used, size - used, "%s%s", i > 0 ? " < " : "", one);
    }
}

__attribute__((no_sanitize("address"))) ULONG StackCapture(void **frames, ULONG count) {
    const SHIM_THREAD *self = ThreadSelfOrNull();
    void *const *frame = __builtin_frame_address(0);
    ULONG found = 0;

    memset(frames, 0, count * sizeof(*frames));
    if (self == NULL) {
        return 0;
    }
    while (found < count && (uintptr_t)frame >= self->StackLow && (uintptr_t)(frame + 2) <= self->StackHigh &&
           ((uintptr_t)frame & 7) == 0 && frame[1] != NULL) {
        frames[found++] = frame[1];
        if ((void *const *)frame[0] <= frame) {
            break;
        }
        frame = frame[0];
    }
    return found;
}

void ShimPrintStack(void) {
    void *frames[64];

    if (__sanitizer_print_stack_trace != NULL) {
        __sanitizer_print_stack_trace();
        return;
    }
    backtrace_symbols_fd(frames, backtrace(frames, 64), STDERR_FILENO);
}

void ShimNote(const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(g_Note, sizeof(g_Note), format, arguments);
    va_end(arguments);
}

const char *ShimNoted(void) {
    return g_Note;
}

_Noreturn void ShimAbort(const char *rule, const char *format, ...) {
    char message[4096];
    char who[2048];
    const SHIM_THREAD *self = ThreadSelfOrNull();
    const char *what;
    va_list arguments;

    if (__atomic_exchange_n(&g_Aborting, 1, __ATOMIC_SEQ_CST)) {
        /* Somebody else is at it, or this happened on the way. */
        usleep(5000000);
        abort();
    }
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    fflush(NULL);
    fprintf(stderr, "\nwsklab-shim: RULE %s: %s\n", rule, message);
    if (self != NULL) {
        ThreadDescribe(self, who, sizeof(who));
        fprintf(stderr, "wsklab-shim: in %s\n", who);
    }
    if (InjectLastFailed(&what) != NULL) {
        fprintf(stderr, "wsklab-shim: the last injected failure: %s at %s\n", what, InjectLastFailed(&what));
    }
    if (g_Note[0] != '\0') {
        fprintf(stderr, "wsklab-shim: %s\n", g_Note);
    }
    if (g_Options.Deterministic) {
        fprintf(stderr, "wsklab-shim: deterministic, seed %" PRIu64 "\n", g_Options.Seed);
    }
    ShimPrintStack();
    fflush(stderr);
    abort();
}

/* The line that Windows writes to a serial console; a stop of the kernel is no broken rule. */
_Noreturn VOID NTAPI KeBugCheckEx(ULONG BugCheckCode, ULONG_PTR BugCheckParameter1, ULONG_PTR BugCheckParameter2,
                                  ULONG_PTR BugCheckParameter3, ULONG_PTR BugCheckParameter4) {
    fflush(NULL);
    fprintf(stderr, "\n*** STOP: 0x%08X (0x%016" PRIxPTR ",0x%016" PRIxPTR ",0x%016" PRIxPTR ",0x%016" PRIxPTR ")\n", BugCheckCode,
            (uintptr_t)BugCheckParameter1, (uintptr_t)BugCheckParameter2, (uintptr_t)BugCheckParameter3, (uintptr_t)BugCheckParameter4);
    ShimPrintStack();
    fflush(stderr);
    abort();
}
