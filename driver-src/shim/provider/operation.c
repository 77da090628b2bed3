/*
 * operation.c: the functions of WSK that take an IRP, by name.
 */
#include "operation.h"

const char *WskpOperationName(WSKP_OPERATION operation) {
    static const char *const names[] = {
#define WSKP_OPERATION_TEXT(name, pends) "Wsk" #name,
        WSKP_OPERATIONS(WSKP_OPERATION_TEXT)
#undef WSKP_OPERATION_TEXT
    };
    return names[operation];
}

BOOLEAN WskpOperationUsuallyPends(WSKP_OPERATION operation) {
    static const BOOLEAN pends[] = {
#define WSKP_OPERATION_PENDS(name, usually) usually,
        WSKP_OPERATIONS(WSKP_OPERATION_PENDS)
#undef WSKP_OPERATION_PENDS
    };
    return pends[operation];
}
