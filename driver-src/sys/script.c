/*
 * script.c: scripted answers.
 */
#include "script.h"

#include "client.h"

#define ENDLESS ~0ull

typedef struct SCRIPT {
    LIST_ENTRY Link;
    ULONG Socket;
    ULONG Callback;
    ULONG Count;
    ULONG Current; /* index of the answer whose turn it is */
    ULONG Uses;    /* of that answer so far */
    ULONG64 Used;
    WSKLAB_ANSWER Answers[];
} SCRIPT;

#define MAY(action) (1u << WSKLAB_ACTION_##action)

/* The actions of each callback. */
static const UCHAR g_Actions[WSKLAB_CALLBACK_END] = {
    [WSKLAB_CALLBACK_ACCEPT] = MAY(DEFAULT) | MAY(TAKE) | MAY(REFUSE),
    [WSKLAB_CALLBACK_INSPECT] = MAY(DEFAULT) | MAY(TAKE) | MAY(REFUSE) | MAY(PEND),
    [WSKLAB_CALLBACK_ABORT] = MAY(DEFAULT),
    [WSKLAB_CALLBACK_RECEIVE_FROM] = MAY(DEFAULT) | MAY(TAKE) | MAY(KEEP) | MAY(REFUSE),
    [WSKLAB_CALLBACK_RECEIVE] = MAY(DEFAULT) | MAY(TAKE) | MAY(TAKE_SOME) | MAY(KEEP) | MAY(REFUSE),
    [WSKLAB_CALLBACK_DISCONNECT] = MAY(DEFAULT),
    [WSKLAB_CALLBACK_SEND_BACKLOG] = MAY(DEFAULT),
    [WSKLAB_CALLBACK_CLIENT] = MAY(DEFAULT),
};

static BOOLEAN AnswerIsValid(ULONG Callback, const WSKLAB_ANSWER *Answer) {
    BOOLEAN accepts = Callback == WSKLAB_CALLBACK_ACCEPT && Answer->action == WSKLAB_ACTION_TAKE;
    BOOLEAN names = accepts || Answer->action == WSKLAB_ACTION_KEEP;
    ULONG64 last = (ULONG64)Answer->number + (Answer->uses != 0 ? Answer->uses - 1 : 0);

    return Answer->action <= WSKLAB_ACTION_PEND && (g_Actions[Callback] & (1u << Answer->action)) != 0 &&
           (names ? Answer->number != 0 && last <= WSKLAB_MAX_NUMBER : Answer->number == 0) &&
           (Answer->action == WSKLAB_ACTION_TAKE_SOME || Answer->length == 0) &&
           (accepts || (Answer->socket_context == 0 && Answer->dispatch == 0 && Answer->dispatch_mask == 0)) &&
           Answer->dispatch <= WSKLAB_DISPATCH_MASK && Answer->then_op <= WSKLAB_MAX_NUMBER &&
           Answer->hold_ms <= WSKLAB_MAX_HOLD_MS && Answer->reserved0 == 0 && Answer->reserved1 == 0 && Answer->reserved2 == 0;
}

NTSTATUS ScriptCheck(const WSKLAB_SCRIPT *Script, const WSKLAB_ANSWER *Answers) {
    BOOLEAN ofClient = Script->callback == WSKLAB_CALLBACK_CLIENT;

    if (Script->reserved != 0 || Script->socket > WSKLAB_MAX_NUMBER || Script->count > WSKLAB_MAX_ANSWERS ||
        Script->callback >= WSKLAB_CALLBACK_END || g_Actions[Script->callback] == 0 || (ofClient && Script->socket != 0)) {
        return STATUS_INVALID_PARAMETER;
    }
    for (ULONG i = 0; i < Script->count; i++) {
        /* Nothing comes after an endless answer. */
        if (!AnswerIsValid(Script->callback, &Answers[i]) || (Answers[i].uses == 0 && i + 1 != Script->count)) {
            return STATUS_INVALID_PARAMETER;
        }
    }
    return STATUS_SUCCESS;
}

_Requires_lock_held_(Client->Lock) static SCRIPT *Find(CLIENT *Client, ULONG Socket, ULONG Callback) {
    for (PLIST_ENTRY entry = Client->Scripts.Flink; entry != &Client->Scripts; entry = entry->Flink) {
        SCRIPT *script = CONTAINING_RECORD(entry, SCRIPT, Link);
        if (script->Socket == Socket && script->Callback == Callback) {
            return script;
        }
    }
    return NULL;
}

static ULONG64 UsesLeft(const SCRIPT *Script) {
    ULONG64 left = 0;
    for (ULONG i = Script->Current; i < Script->Count; i++) {
        if (Script->Answers[i].uses == 0) {
            return ENDLESS;
        }
        left += Script->Answers[i].uses;
    }
    return left - Script->Uses;
}

_Use_decl_annotations_ NTSTATUS ScriptSet(CLIENT *Client, const WSKLAB_SCRIPT *Script, const WSKLAB_ANSWER *Answers,
                                          WSKLAB_SCRIPT_RESULT *Replaced) {
    SIZE_T bytes = Script->count * sizeof(*Answers);
    NTSTATUS status = STATUS_SUCCESS;
    SCRIPT *script = NULL;
    SCRIPT *old;
    KIRQL irql;

    if (Script->count != 0) {
        script = MemoryAllocate(&Client->Ledger, sizeof(*script) + bytes);
        if (script == NULL) {
            return STATUS_INSUFFICIENT_RESOURCES;
        }
        script->Socket = Script->socket;
        script->Callback = Script->callback;
        script->Count = Script->count;
        RtlCopyMemory(script->Answers, Answers, bytes);
    }
    *Replaced = (WSKLAB_SCRIPT_RESULT){0};
    KeAcquireSpinLock(&Client->Lock, &irql);
    old = Find(Client, Script->socket, Script->callback);
    if (Client->State != CLIENT_OPEN) {
        status = STATUS_FILE_CLOSED;
    } else if (script != NULL && old == NULL && Client->ScriptCount >= WSKLAB_MAX_SCRIPTS) {
        status = STATUS_QUOTA_EXCEEDED;
    } else {
        if (old != NULL) {
            *Replaced = (WSKLAB_SCRIPT_RESULT){.used = old->Used, .left = UsesLeft(old)};
            RemoveEntryList(&old->Link);
            Client->ScriptCount--;
        }
        if (script != NULL) {
            InsertTailList(&Client->Scripts, &script->Link);
            Client->ScriptCount++;
        }
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    MemoryFree(NT_SUCCESS(status) ? old : script);
    return status;
}

_Use_decl_annotations_ BOOLEAN ScriptNext(CLIENT *Client, ULONG Socket, ULONG Callback, WSKLAB_ANSWER *Out) {
    BOOLEAN found = FALSE;
    SCRIPT *script;
    KIRQL irql;

    KeAcquireSpinLock(&Client->Lock, &irql);
    script = Find(Client, Socket, Callback);
    if (script == NULL) {
        script = Find(Client, 0, Callback);
    }
    if (script != NULL && script->Current < script->Count) {
        *Out = script->Answers[script->Current];
        Out->number += Out->number != 0 ? script->Uses : 0;
        Out->socket_context += script->Uses;
        Out->then_op = script->Uses == 0 ? Out->then_op : 0;
        script->Used++;
        script->Uses++;
        if (Out->uses != 0 && script->Uses == Out->uses) {
            script->Current++;
            script->Uses = 0;
        }
        found = TRUE;
    }
    KeReleaseSpinLock(&Client->Lock, irql);
    return found;
}

_Use_decl_annotations_ VOID ScriptsFree(CLIENT *Client) {
    for (;;) {
        PLIST_ENTRY entry = NULL;
        KIRQL irql;

        KeAcquireSpinLock(&Client->Lock, &irql);
        if (!IsListEmpty(&Client->Scripts)) {
            entry = RemoveHeadList(&Client->Scripts);
            Client->ScriptCount--;
        }
        KeReleaseSpinLock(&Client->Lock, irql);
        if (entry == NULL) {
            return;
        }
        MemoryFree(CONTAINING_RECORD(entry, SCRIPT, Link));
    }
}
