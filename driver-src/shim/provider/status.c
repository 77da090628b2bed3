/*
 * status.c: Linux errors as NTSTATUS.
 */
#include "provider.h"

#include <errno.h>

#include "host/host_name.h"

NTSTATUS WskpStatusOf(int error) {
    static const struct {
        int Error;
        NTSTATUS Status;
    } table[] = {
        {0, STATUS_SUCCESS},
        {EADDRINUSE, STATUS_ADDRESS_ALREADY_EXISTS},
        {EADDRNOTAVAIL, STATUS_INVALID_ADDRESS_COMPONENT},
        {EACCES, STATUS_ACCESS_DENIED},
        {EPERM, STATUS_ACCESS_DENIED},
        {ECONNREFUSED, STATUS_CONNECTION_REFUSED},
        {ECONNRESET, STATUS_CONNECTION_RESET},
        {EPIPE, STATUS_CONNECTION_RESET},
        {ECONNABORTED, STATUS_CONNECTION_ABORTED},
        {ETIMEDOUT, STATUS_IO_TIMEOUT},
        {ENETUNREACH, STATUS_NETWORK_UNREACHABLE},
        {EHOSTUNREACH, STATUS_HOST_UNREACHABLE},
        {ENOTCONN, STATUS_CONNECTION_DISCONNECTED},
        {EMSGSIZE, STATUS_INVALID_BUFFER_SIZE},
        {ENOMEM, STATUS_INSUFFICIENT_RESOURCES},
        {ENOBUFS, STATUS_INSUFFICIENT_RESOURCES},
        {EMFILE, STATUS_INSUFFICIENT_RESOURCES},
        {ENFILE, STATUS_INSUFFICIENT_RESOURCES},
        {EAFNOSUPPORT, STATUS_NOT_SUPPORTED},
        {EPROTONOSUPPORT, STATUS_NOT_SUPPORTED},
        {ESOCKTNOSUPPORT, STATUS_NOT_SUPPORTED},
        {EPROTOTYPE, STATUS_NOT_SUPPORTED},
        {EOPNOTSUPP, STATUS_NOT_SUPPORTED},
        {EINVAL, STATUS_INVALID_PARAMETER},
    };
    int positive = error < 0 ? -error : error;

    for (size_t index = 0; index < RTL_NUMBER_OF(table); index++) {
        if (table[index].Error == positive) {
            return table[index].Status;
        }
    }
    return STATUS_UNSUCCESSFUL;
}
