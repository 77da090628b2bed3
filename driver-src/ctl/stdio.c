/*
 * stdio.c - `wskctl stdio`: reads requests, hands them to the bridge.
 *
 * One request per line: {"id": N, "deadline_ms": N, "verb": V, ...}. Answers come in the order of
 * completion. The reader submits in the order of the lines, so a client may send a second ioctl on the
 * same handle without waiting for the first.
 */
#include "bridge.h"
#include "json.h"
#include "lines.h"
#include "verbs.h"

/* Room that a net answer leaves for the rest of its line. */
#define NET_LIMIT (WSKCTL_LINE_LIMIT - 4096u)

typedef struct SESSION {
    BRIDGE *bridge;
    SENDER *sender;
} SESSION;

static void Hello(SESSION *session, uint64_t id, const JSON_OBJECT *request)
{
    const JSON_MEMBER *driver = JsonFind(request, "driver");
    char buffer[4096];
    char path[1024];
    TEXT line;

    path[0] = '\0';
    if (driver != NULL && driver->kind == JSON_STRING && driver->text_length < sizeof(path)) {
        memcpy(path, driver->text, driver->text_length);
        path[driver->text_length] = '\0';
    }
    AnswerStart(&line, buffer, sizeof(buffer), id, 1);
    IdentityMembers(&line, path[0] == '\0' ? NULL : path);
    SendAnswer(session->sender, &line, id);
}

static void Net(SESSION *session, uint64_t id)
{
    char *buffer = Allocate(WSKCTL_LINE_LIMIT);
    DWORD win32 = ERROR_NOT_ENOUGH_MEMORY;
    TEXT line;

    if (buffer != NULL) {
        AnswerStart(&line, buffer, WSKCTL_LINE_LIMIT, id, 1);
        if (NetMembers(&line, NET_LIMIT, &win32)) {
            SendAnswer(session->sender, &line, id);
            Free(buffer);
            return;
        }
    }
    Free(buffer);
    SendError(session->sender, id, "failed", "the address tables cannot be read", 0, win32);
}

static void Ioctl(SESSION *session, uint64_t id, uint32_t deadline_ms, const JSON_OBJECT *request)
{
    const JSON_MEMBER *data = JsonFind(request, "data");
    const char *fault = NULL;
    uint64_t device = 0;
    uint64_t code = 0;
    uint64_t out = 0;
    size_t size = 0;
    unsigned char *input = NULL;

    if (!JsonGetUnsigned(request, "handle", UINT32_MAX, &device)) {
        fault = "handle must be an integer";
    } else if (!JsonGetUnsigned(request, "code", UINT32_MAX, &code)) {
        fault = "code must be a 32-bit integer";
    } else if (!JsonGetUnsigned(request, "out", WSKCTL_DATA_LIMIT, &out)) {
        fault = "out must be an integer of at most 512000";
    } else if (data == NULL || data->kind != JSON_STRING || data->text_length / 2 > WSKCTL_DATA_LIMIT) {
        fault = "data must be a hexadecimal string of at most 512000 bytes";
    } else if (data->text_length > 0) {
        size = data->text_length / 2;
        input = Allocate(size);
        if (input == NULL) {
            fault = "no memory for data";
        } else if (!HexDecode(data->text, data->text_length, input)) {
            fault = "data is not hexadecimal";
        }
    }
    if (fault != NULL) {
        Free(input);
        SendError(session->sender, id, "bad_argument", fault, 0, ERROR_INVALID_PARAMETER);
        return;
    }
    BridgeIoctl(session->bridge, id, device, (uint32_t)code, input, (uint32_t)size, (uint32_t)out, deadline_ms);
}

static void Dispatch(SESSION *session, uint64_t id, uint32_t deadline_ms, const JSON_OBJECT *request)
{
    const JSON_MEMBER *verb = JsonFind(request, "verb");
    const JSON_MEMBER *path = JsonFind(request, "path");
    uint64_t number = 0;

    if (verb == NULL || verb->kind != JSON_STRING) {
        SendError(session->sender, id, "bad_argument", "verb must be a string", 0, ERROR_INVALID_PARAMETER);
    } else if (JsonIsText(verb, "ioctl")) {
        Ioctl(session, id, deadline_ms, request);
    } else if (JsonIsText(verb, "hello")) {
        Hello(session, id, request);
    } else if (JsonIsText(verb, "net")) {
        Net(session, id);
    } else if (JsonIsText(verb, "open")) {
        if (path == NULL || path->kind != JSON_STRING) {
            SendError(session->sender, id, "bad_argument", "path must be a string", 0, ERROR_INVALID_PARAMETER);
        } else {
            BridgeOpen(session->bridge, id, path->text, path->text_length);
        }
    } else if (JsonIsText(verb, "close")) {
        BridgeClose(session->bridge, id, JsonGetUnsigned(request, "handle", UINT32_MAX, &number) ? number : 0);
    } else if (JsonIsText(verb, "cancel")) {
        if (JsonGetUnsigned(request, "target", LARGEST_ID, &number)) {
            BridgeCancel(session->bridge, id, number);
        } else {
            SendError(session->sender, id, "bad_argument", "target must be an id", 0, ERROR_INVALID_PARAMETER);
        }
    } else {
        SendError(session->sender, id, "unknown_verb", "known: hello, open, ioctl, cancel, close, net", 0,
                  ERROR_INVALID_FUNCTION);
    }
}

static void HandleLine(SESSION *session, char *line, size_t length)
{
    JSON_OBJECT request;
    uint32_t deadline_ms;
    uint64_t id;

    if (RequestRead(session->sender, line, length, &request, &id, &deadline_ms)) {
        Dispatch(session, id, deadline_ms, &request);
    }
}

int Converse(HANDLE input, HANDLE output)
{
    LINE_READER *reader = Allocate(sizeof(*reader));
    SENDER *sender = Allocate(sizeof(*sender));
    SESSION session = {NULL, sender};
    LINE_RESULT result;
    char *line;
    size_t length;

    if (reader == NULL || sender == NULL || !LineReaderStart(reader, input)) {
        Complain("wskctl: no memory\n");
        return EXIT_FAILED;
    }
    SenderStart(sender, output);
    session.bridge = BridgeStart(sender);
    if (session.bridge == NULL) {
        Complain("wskctl: the completion port or its thread cannot be made\n");
        return EXIT_FAILED;
    }
    while ((result = LineReaderNext(reader, &line, &length)) != LINE_END) {
        if (result == LINE_READY) {
            HandleLine(&session, line, length);
        } else {
            SendError(sender, NO_ID, "line_too_long", "a line of more than 1048576 bytes was skipped", 0,
                      ERROR_INVALID_DATA);
        }
    }
    if (BridgeStop(session.bridge)) {
        Free(sender);
    }
    LineReaderEnd(reader);
    Free(reader);
    return EXIT_OK;
}

int VerbStdio(int count, char **arguments)
{
    (void)arguments;
    if (count != 0) {
        Complain("wskctl: stdio takes no arguments\n");
        return EXIT_USAGE;
    }
    return Converse(GetStdHandle(STD_INPUT_HANDLE), GetStdHandle(STD_OUTPUT_HANDLE));
}
