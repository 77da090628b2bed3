/*
 * submit.c: whether a request to call WSK makes sense.
 */
#include "submit.h"

#include "buffer.h"
#include "operation.h"

#define INVOKE_ALL (WSKLAB_INVOKE_SUCCESS | WSKLAB_INVOKE_ERROR | WSKLAB_INVOKE_CANCEL)

NTSTATUS SubmitCheckHeader(const WSKLAB_HEADER *Header, ULONG Size) {
    if (Header->abi != WSKLAB_ABI_VERSION) {
        return STATUS_REVISION_MISMATCH;
    }
    if (Header->size != Size) {
        return STATUS_INFO_LENGTH_MISMATCH;
    }
    return Header->reserved == 0 ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
}

static BOOLEAN IsKnown(ULONG Function) {
    return (Function >= WSKLAB_FN_SAMPLE_LISTEN && Function <= WSKLAB_FN_CLOSE) ||
           (Function >= WSKLAB_FN_REGISTER && Function <= WSKLAB_FN_SOCKET_INFO);
}

static BOOLEAN NumberIsValid(ULONG Number) {
    return Number != 0 && Number <= WSKLAB_MAX_NUMBER;
}

static BOOLEAN AddressIsValid(const WSKLAB_ADDRESS *Address) {
    return Address->length <= sizeof(Address->bytes) && Address->reserved == 0;
}

static BOOLEAN ReservedAreZero(const WSKLAB_SUBMIT *Submit) {
    /* The arguments of functions that this driver does not have yet. */
    return Submit->reserved0 == 0 && Submit->wait_ms == 0 && Submit->wait_flags == 0 &&
           MemoryIsAll(&Submit->forward, sizeof(*Submit) - offsetof(WSKLAB_SUBMIT, forward), 0);
}

static BOOLEAN EnumerationsAreValid(const WSKLAB_SUBMIT *Submit) {
    return Submit->irp_source <= WSKLAB_IRP_FORWARDED && Submit->call_context <= WSKLAB_CONTEXT_RAISED &&
           Submit->dispatch <= WSKLAB_DISPATCH_MASK && Submit->owning_process <= WSKLAB_OWNER_CURRENT &&
           Submit->owning_thread <= WSKLAB_OWNER_CURRENT && Submit->security == WSKLAB_SECURITY_NULL &&
           Submit->mdl_shape <= WSKLAB_MDL_CHAIN && Submit->fill <= WSKLAB_FILL_PATTERN && Submit->second_location <= 1 &&
           (Submit->address_use & ~(WSKLAB_ADDRESS_LOCAL | WSKLAB_ADDRESS_REMOTE)) == 0 &&
           (Submit->invoke_flags & ~INVOKE_ALL) == 0 && (Submit->switches & ~WSKLAB_SWITCH_ALL) == 0;
}

/* Which socket numbers a function needs. */
static BOOLEAN SocketsAreValid(const WSKLAB_SUBMIT *Submit) {
    BOOLEAN acts = (Submit->function >= WSKLAB_FN_BIND && Submit->function <= WSKLAB_FN_CLOSE) ||
                   Submit->function == WSKLAB_FN_SOCKET_INFO;
    BOOLEAN creates = OperationCreates(Submit->function);

    return (acts ? NumberIsValid(Submit->socket) : Submit->socket == 0) &&
           (creates ? NumberIsValid(Submit->new_socket) : Submit->new_socket == 0);
}

static BOOLEAN IrpIsValid(const WSKLAB_SUBMIT *Submit) {
    BOOLEAN usesIrp = OperationUsesIrp(Submit->function);
    BOOLEAN isSample = Submit->function == WSKLAB_FN_SAMPLE_LISTEN;
    BOOLEAN ordinary = Submit->irp_source == WSKLAB_IRP_ALLOCATED && Submit->stack_count == 1 &&
                       Submit->invoke_flags == INVOKE_ALL && !Submit->second_location &&
                       !(Submit->switches & (WSKLAB_SWITCH_NULL_IRP | WSKLAB_SWITCH_KEEP_IRP));

    if (!usesIrp || isSample) {
        return ordinary && Submit->reuse_op == 0 && (isSample || Submit->then_op == 0);
    }
    if (Submit->stack_count > WSKLAB_MAX_STACK_COUNT || (Submit->second_location && Submit->stack_count < 2)) {
        return FALSE;
    }
    /* A routine that may be skipped needs a catch-all above it: nobody else would keep our IRP. */
    if (Submit->invoke_flags != INVOKE_ALL && !Submit->second_location) {
        return FALSE;
    }
    if (Submit->switches & WSKLAB_SWITCH_NULL_IRP) {
        return Submit->irp_source == WSKLAB_IRP_ALLOCATED && !(Submit->switches & WSKLAB_SWITCH_KEEP_IRP) && Submit->then_op == 0;
    }
    return Submit->irp_source == WSKLAB_IRP_REUSED ? NumberIsValid(Submit->reuse_op) && Submit->reuse_op != Submit->op_id
                                                   : Submit->reuse_op == 0;
}

/* Where and when it may be called. */
static BOOLEAN ContextIsValid(const WSKLAB_SUBMIT *Submit) {
    BOOLEAN held = (Submit->switches & WSKLAB_SWITCH_HELD) != 0;
    BOOLEAN mayWait = Submit->timeout_ms != WSK_NO_WAIT || (Submit->switches & WSKLAB_SWITCH_INFINITE);
    BOOLEAN passiveOnly = Submit->function == WSKLAB_FN_REGISTER || Submit->function == WSKLAB_FN_DEREGISTER ||
                          (Submit->function == WSKLAB_FN_CAPTURE && mayWait);

    if (Submit->delay_ms > WSKLAB_MAX_TIMEOUT_MS || Submit->timeout_ms > WSKLAB_MAX_TIMEOUT_MS) {
        return FALSE;
    }
    if (Submit->timeout_ms != 0 && Submit->function != WSKLAB_FN_CAPTURE) {
        return FALSE;
    }
    if (passiveOnly && (held || Submit->call_context == WSKLAB_CONTEXT_RAISED)) {
        return FALSE; /* a completion routine may run at DISPATCH_LEVEL */
    }
    /* A held operation runs where the completion routine runs. */
    return !held || (Submit->call_context == WSKLAB_CONTEXT_CALLER && Submit->delay_ms == 0);
}

static BOOLEAN SwitchesFit(const WSKLAB_SUBMIT *Submit) {
    ULONG switches = Submit->switches;
    return (!(switches & WSKLAB_SWITCH_NULL_CLIENT) || Submit->function == WSKLAB_FN_SOCKET) &&
           (!(switches & WSKLAB_SWITCH_AFTER_DEREGISTER) || Submit->function == WSKLAB_FN_CAPTURE) &&
           (!(switches & WSKLAB_SWITCH_INFINITE) || (Submit->function == WSKLAB_FN_CAPTURE && Submit->timeout_ms == 0)) &&
           (!(switches & WSKLAB_SWITCH_EVEN_IF_RAISING) || Submit->function == WSKLAB_FN_QUERY_CHARACTERISTICS);
}

static BOOLEAN ArgumentsAreValid(const WSKLAB_SUBMIT *Submit) {
    BOOLEAN transfers = Submit->function == WSKLAB_FN_SEND || Submit->function == WSKLAB_FN_RECEIVE;

    if (!AddressIsValid(&Submit->local) || !AddressIsValid(&Submit->remote) || !BufferIsValid(Submit)) {
        return FALSE;
    }
    if (!transfers && Submit->mdl_shape != WSKLAB_MDL_NULL) {
        return FALSE;
    }
    /* A SOCKADDR has at least a family. NULL addresses are not offered: the pages do not allow them. */
    if (Submit->function == WSKLAB_FN_BIND) {
        return Submit->local.length >= sizeof(USHORT);
    }
    return Submit->function != WSKLAB_FN_CONNECT || Submit->remote.length >= sizeof(USHORT);
}

NTSTATUS SubmitCheck(WSKLAB_SUBMIT *Submit, ULONG InputBytes) {
    NTSTATUS status = SubmitCheckHeader(&Submit->header, sizeof(*Submit));

    if (!NT_SUCCESS(status)) {
        return status;
    }
    if (Submit->data_length > WSKLAB_MAX_DATA || Submit->extra_length > WSKLAB_MAX_EXTRA ||
        InputBytes != sizeof(*Submit) + Submit->data_length + Submit->extra_length) {
        return STATUS_INFO_LENGTH_MISMATCH;
    }
    if (!IsKnown(Submit->function)) {
        /* Reserved names are promised for later; any other number is nonsense. */
        return Submit->function >= WSKLAB_FN_SOCKET_CONNECT && Submit->function < WSKLAB_FN_END ? STATUS_NOT_IMPLEMENTED
                                                                                               : STATUS_INVALID_PARAMETER;
    }
    if (Submit->stack_count == 0) {
        Submit->stack_count = 1;
    }
    if (Submit->invoke_flags == 0) {
        Submit->invoke_flags = INVOKE_ALL;
    }
    if (!NumberIsValid(Submit->op_id) || Submit->then_op > WSKLAB_MAX_NUMBER || Submit->then_op == Submit->op_id ||
        !ReservedAreZero(Submit) || !EnumerationsAreValid(Submit) || !SocketsAreValid(Submit) || !IrpIsValid(Submit) ||
        !ContextIsValid(Submit) || !SwitchesFit(Submit) || !ArgumentsAreValid(Submit)) {
        return STATUS_INVALID_PARAMETER;
    }
    return Submit->irp_source == WSKLAB_IRP_FORWARDED ? STATUS_NOT_SUPPORTED : STATUS_SUCCESS;
}
