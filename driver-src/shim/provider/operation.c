/*
 * operation.c: the functions of WSK that take an IRP, by name.
 */
#include "operation.h"

const char *WskpOperationName(WSKP_OPERATION operation) {
    static const char *const names[] = {
#define WSKP_OPERATION_TEXT(name, succeeding, failing) "Wsk" #name,
        WSKP_OPERATIONS(WSKP_OPERATION_TEXT)
#undef WSKP_OPERATION_TEXT
    };
    return names[operation];
}

BOOLEAN WskpOperationUsuallyPends(WSKP_OPERATION operation, NTSTATUS status) {
    static const BOOLEAN pends[][2] = {
#define WSKP_OPERATION_PENDS(name, succeeding, failing) {failing, succeeding},
        WSKP_OPERATIONS(WSKP_OPERATION_PENDS)
#undef WSKP_OPERATION_PENDS
    };
    return pends[operation][NT_SUCCESS(status) ? 1 : 0];
}
