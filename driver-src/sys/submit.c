/*
 * submit.c: whether a request to call WSK makes sense.
 */
#include "submit.h"

#include "buffer.h"
#include "control.h"
#include "forward.h"
#include "hold.h"
#include "names.h"

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

static BOOLEAN Has(const WSKLAB_SUBMIT *Submit, ULONG Traits) {
    return (FunctionTraits(Submit->function) & Traits) != 0;
}

static BOOLEAN NumberIsValid(ULONG Number) {
    return Number != 0 && Number <= WSKLAB_MAX_NUMBER;
}

/* A number where one is needed, 0 elsewhere. */
static BOOLEAN NumberFits(ULONG Number, BOOLEAN Needed) {
    return Needed ? NumberIsValid(Number) : Number == 0;
}

static BOOLEAN AddressIsValid(const WSKLAB_ADDRESS *Address) {
    return Address->length <= sizeof(Address->bytes) && Address->reserved == 0;
}

static BOOLEAN ReservedAreZero(const WSKLAB_SUBMIT *Submit) {
    return Submit->reserved0 == 0 && Submit->wait_ms == 0 && Submit->wait_flags == 0 && Submit->reserved1 == 0 &&
           Submit->reserved3[0] == 0 && Submit->reserved3[1] == 0;
}

static BOOLEAN EnumerationsAreValid(const WSKLAB_SUBMIT *Submit) {
    return Submit->irp_source <= WSKLAB_IRP_FORWARDED && Submit->call_context <= WSKLAB_CONTEXT_RAISED &&
           Submit->dispatch <= WSKLAB_DISPATCH_MASK && Submit->owning_process <= WSKLAB_OWNER_CURRENT &&
           Submit->owning_thread <= WSKLAB_OWNER_CURRENT && Submit->security <= WSKLAB_SECURITY_CACHED &&
           Submit->mdl_shape <= WSKLAB_MDL_CHAIN && Submit->fill <= WSKLAB_FILL_PATTERN && Submit->second_location <= 1 &&
           Submit->forward <= WSKLAB_FORWARD_HOLD &&
           (Submit->address_use & ~(WSKLAB_ADDRESS_LOCAL | WSKLAB_ADDRESS_REMOTE)) == 0 &&
           (Submit->invoke_flags & ~INVOKE_ALL) == 0 && (Submit->switches & ~WSKLAB_SWITCH_ALL) == 0;
}

/* Numbers of sockets and objects, where the function has to do with them. */
static BOOLEAN NumbersAreValid(const WSKLAB_SUBMIT *Submit) {
    BOOLEAN bySocket = Submit->function == WSKLAB_FN_SOCKET || Submit->function == WSKLAB_FN_SOCKET_CONNECT;
    BOOLEAN inspects = Submit->function == WSKLAB_FN_INSPECT_COMPLETE;

    return NumberFits(Submit->socket, Has(Submit, FUNCTION_SOCKET)) &&
           NumberFits(Submit->new_socket, Has(Submit, FUNCTION_CREATES)) &&
           NumberFits(Submit->new_object, HoldMakes(Submit) != 0) &&
           (inspects ? Submit->object <= WSKLAB_MAX_NUMBER : NumberFits(Submit->object, HoldTakes(Submit))) &&
           (bySocket || Submit->security == WSKLAB_SECURITY_NULL);
}

static BOOLEAN IrpIsValid(const WSKLAB_SUBMIT *Submit) {
    BOOLEAN usesIrp = Has(Submit, FUNCTION_IRP);
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
    BOOLEAN passiveOnly = Has(Submit, FUNCTION_PASSIVE) || (Submit->function == WSKLAB_FN_CAPTURE && mayWait);

    if (Submit->delay_ms > WSKLAB_MAX_TIMEOUT_MS || Submit->timeout_ms > WSKLAB_MAX_TIMEOUT_MS ||
        Submit->grace_ms > WSKLAB_GRACE_MS) {
        return FALSE;
    }
    if (Submit->timeout_ms != 0 && Submit->function != WSKLAB_FN_CAPTURE) {
        return FALSE;
    }
    if ((passiveOnly || ControlIsPassive(Submit)) && (held || Submit->call_context == WSKLAB_CONTEXT_RAISED)) {
        return FALSE; /* a completion routine may run at DISPATCH_LEVEL */
    }
    /* A held operation runs where the completion routine runs. */
    return !held || (Submit->call_context == WSKLAB_CONTEXT_CALLER && Submit->delay_ms == 0);
}

/* Each switch has its functions. */
static BOOLEAN SwitchesFit(const WSKLAB_SUBMIT *Submit) {
    ULONG switches = Submit->switches;
    BOOLEAN releases = Submit->function == WSKLAB_FN_RELEASE_DATA || Submit->function == WSKLAB_FN_RELEASE_DATAGRAM;

    return (!(switches & WSKLAB_SWITCH_NULL_CLIENT) || Submit->function == WSKLAB_FN_SOCKET) &&
           (!(switches & WSKLAB_SWITCH_AFTER_DEREGISTER) || Submit->function == WSKLAB_FN_CAPTURE) &&
           (!(switches & WSKLAB_SWITCH_INFINITE) || (Submit->function == WSKLAB_FN_CAPTURE && Submit->timeout_ms == 0)) &&
           (!(switches & WSKLAB_SWITCH_EVEN_IF_RAISING) || Submit->function == WSKLAB_FN_QUERY_CHARACTERISTICS ||
            Submit->function == WSKLAB_FN_NMR_REGISTER) &&
           (!(switches & WSKLAB_SWITCH_UNKNOWN_ID) || Submit->function == WSKLAB_FN_INSPECT_COMPLETE ||
            (releases && (switches & WSKLAB_SWITCH_HAZARD))) &&
           (!(switches & WSKLAB_SWITCH_UNTERMINATED) || Submit->function == WSKLAB_FN_GET_ADDRESS_INFO) &&
           (!(switches & WSKLAB_SWITCH_NMR_RETRY) || Submit->function == WSKLAB_FN_NMR_REGISTER);
}

/* Address arguments: a SOCKADDR has at least a family. NULL is offered where the page allows it. */
static BOOLEAN AddressesAreValid(const WSKLAB_SUBMIT *Submit) {
    const ULONG family = sizeof(USHORT);

    if (!AddressIsValid(&Submit->local) || !AddressIsValid(&Submit->remote)) {
        return FALSE;
    }
    if (Has(Submit, FUNCTION_REMOTE_MAY) && (Submit->address_use & WSKLAB_ADDRESS_REMOTE) && Submit->remote.length < family) {
        return FALSE;
    }
    if (Submit->function == WSKLAB_FN_GET_LOCAL_ADDRESS) {
        return Submit->address_use == WSKLAB_ADDRESS_LOCAL;
    }
    if (Submit->function == WSKLAB_FN_GET_REMOTE_ADDRESS) {
        return Submit->address_use == WSKLAB_ADDRESS_REMOTE;
    }
    return (!Has(Submit, FUNCTION_LOCAL_IN) || Submit->local.length >= family) &&
           (!Has(Submit, FUNCTION_REMOTE_IN) || Submit->remote.length >= family);
}

static BOOLEAN BufferFits(const WSKLAB_SUBMIT *Submit) {
    if (!Has(Submit, FUNCTION_READS | FUNCTION_WRITES) && Submit->mdl_shape != WSKLAB_MDL_NULL) {
        return FALSE;
    }
    if (Submit->function == WSKLAB_FN_SEND_MESSAGES && Submit->mdl_shape != WSKLAB_MDL_CHAIN) {
        return FALSE;
    }
    return BufferIsValid(Submit);
}

/* The arguments beside the data that only some functions have. */
static BOOLEAN ExtrasAreValid(const WSKLAB_SUBMIT *Submit) {
    ULONG receives = WSKLAB_USE_CONTROL_LENGTH | WSKLAB_USE_CONTROL_INFO | WSKLAB_USE_CONTROL_FLAGS;

    if (Has(Submit, FUNCTION_CONTROL)) {
        return ControlIsValid(Submit);
    }
    if (Submit->control_type != 0 || Submit->input_kind != 0 || Submit->npi != 0 || Submit->descriptor != 0 ||
        Submit->control_code != 0 || Submit->control_level != 0 || Submit->event_mask != 0 || Submit->input_size != 0) {
        return FALSE;
    }
    if (Has(Submit, FUNCTION_NAMES)) {
        return NamesAreValid(Submit);
    }
    if (Has(Submit, FUNCTION_SENDS_CONTROL)) {
        /* A length without a buffer is nobody's business. */
        return Submit->output_size == 0 &&
               Submit->argument_use == (Submit->extra_length != 0 ? WSKLAB_USE_CONTROL_INFO : 0u);
    }
    if (Submit->function == WSKLAB_FN_RECEIVE_FROM) {
        /* A length of more than the buffer would have WSK write behind it. */
        BOOLEAN buffered = (Submit->argument_use & WSKLAB_USE_CONTROL_INFO) != 0;
        return Submit->extra_length == 0 && (Submit->argument_use & ~receives) == 0 && Submit->output_size <= WSKLAB_MAX_EXTRA &&
               (Submit->output_size != 0) == buffered;
    }
    return Submit->extra_length == 0 && Submit->output_size == 0 && Submit->argument_use == 0;
}

static BOOLEAN RestIsValid(const WSKLAB_SUBMIT *Submit) {
    return (Submit->function < WSKLAB_FN_FAIL_NULL || (Submit->switches & WSKLAB_SWITCH_HAZARD)) &&
           (Submit->inspect_action == 0 || Submit->function == WSKLAB_FN_INSPECT_COMPLETE) &&
           (Submit->index == 0 || Submit->function == WSKLAB_FN_INDICATION_INFO) &&
           (Submit->count == 0 || Submit->function == WSKLAB_FN_RELEASE_DATAGRAM) &&
           (Has(Submit, FUNCTION_NAMES) || (Submit->hint_flags == 0 && Submit->name_space == 0 && Submit->node_length == 0 &&
                                            Submit->service_length == 0));
}

NTSTATUS SubmitCheck(WSKLAB_SUBMIT *Submit, ULONG InputBytes, BOOLEAN Forward) {
    NTSTATUS status = SubmitCheckHeader(&Submit->header, sizeof(*Submit));

    if (!NT_SUCCESS(status)) {
        return status;
    }
    if (Submit->data_length > WSKLAB_MAX_DATA || Submit->extra_length > WSKLAB_MAX_EXTRA ||
        InputBytes != sizeof(*Submit) + Submit->data_length + Submit->extra_length) {
        return STATUS_INFO_LENGTH_MISMATCH;
    }
    if (!(FunctionTraits(Submit->function) & FUNCTION_KNOWN)) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Submit->stack_count == 0) {
        Submit->stack_count = 1;
    }
    if (Submit->invoke_flags == 0) {
        Submit->invoke_flags = INVOKE_ALL;
    }
    if (!NumberIsValid(Submit->op_id) || Submit->then_op > WSKLAB_MAX_NUMBER || Submit->then_op == Submit->op_id ||
        !ReservedAreZero(Submit) || !EnumerationsAreValid(Submit) || !NumbersAreValid(Submit) || !IrpIsValid(Submit) ||
        !ContextIsValid(Submit) || !SwitchesFit(Submit) || !AddressesAreValid(Submit) || !BufferFits(Submit) ||
        !ExtrasAreValid(Submit) || !RestIsValid(Submit)) {
        return STATUS_INVALID_PARAMETER;
    }
    if (Forward) {
        return ForwardIsValid(Submit) ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
    }
    return Submit->irp_source != WSKLAB_IRP_FORWARDED && Submit->forward == WSKLAB_FORWARD_NONE ? STATUS_SUCCESS
                                                                                                : STATUS_INVALID_PARAMETER;
}
