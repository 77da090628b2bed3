/*
 * peer.c - `wskctl peer`: TCP sockets of this machine for a case that runs elsewhere.
 *
 * The requests have the form of stdio.c and are done one after the other; none outlasts its deadline.
 *
 *   listen  {address}         -> socket, local            accept {socket}         -> socket, local, remote
 *   connect {address}         -> socket, local, remote    send   {socket, data}
 *   receive {socket, length}  -> data, "" at the end of the stream (and, on Wine 8, after a reset: select takes the error)
 *   finish  {socket}          a FIN                       reset  {socket}         an RST, and the socket is closed
 *   close   {socket}
 *
 * An address is a SOCKADDR in hexadecimal: whoever asks chooses the family. A refusal has the code of Winsock.
 */
#include "answer.h"
#include "lines.h"
#include "verbs.h"

#include <winsock2.h>
#include <ws2tcpip.h>

#define MAX_SOCKETS 64
/* What one receive gives: its digits fit a line. */
#define MAX_RECEIVE 65536u
#define BACKLOG 16

/* ws2_32 is loaded only here: every DLL costs each start of wskctl under an emulated processor. */
typedef struct WINSOCK {
    int(WINAPI *Startup)(WORD, LPWSADATA);
    int(WINAPI *LastError)(void);
    SOCKET(WINAPI *Socket)(int, int, int);
    int(WINAPI *Bind)(SOCKET, const struct sockaddr *, int);
    int(WINAPI *Listen)(SOCKET, int);
    SOCKET(WINAPI *Accept)(SOCKET, struct sockaddr *, int *);
    int(WINAPI *Connect)(SOCKET, const struct sockaddr *, int);
    int(WINAPI *Select)(int, fd_set *, fd_set *, fd_set *, const struct timeval *);
    int(WINAPI *Send)(SOCKET, const char *, int, int);
    int(WINAPI *Receive)(SOCKET, char *, int, int);
    int(WINAPI *Shutdown)(SOCKET, int);
    int(WINAPI *Close)(SOCKET);
    int(WINAPI *Control)(SOCKET, LONG, u_long *);
    int(WINAPI *SetOption)(SOCKET, int, int, const char *, int);
    int(WINAPI *GetOption)(SOCKET, int, int, char *, int *);
    int(WINAPI *LocalName)(SOCKET, struct sockaddr *, int *);
    int(WINAPI *RemoteName)(SOCKET, struct sockaddr *, int *);
} WINSOCK;

typedef struct PEER {
    WINSOCK winsock;
    SENDER sender;
    SOCKET sockets[MAX_SOCKETS]; /* by number - 1 */
    unsigned char data[WSKCTL_LINE_LIMIT / 2];
    char line[4096 + 2 * MAX_RECEIVE];
} PEER;

/* One request, and when it has to be over. */
typedef struct TASK {
    PEER *peer;
    uint64_t id;
    ULONGLONG end;
    const JSON_OBJECT *request;
} TASK;

typedef enum WANTED { TO_READ, TO_WRITE, TO_BE_CONNECTED } WANTED;

static int LoadWinsock(WINSOCK *winsock)
{
    static const char *const names[] = {"WSAStartup", "WSAGetLastError", "socket",      "bind",       "listen", "accept",
                                        "connect",    "select",          "send",        "recv",       "shutdown",
                                        "closesocket", "ioctlsocket",    "setsockopt",  "getsockopt", "getsockname",
                                        "getpeername"};
    HMODULE library = LoadLibraryW(L"ws2_32.dll");
    FARPROC *routines = (FARPROC *)winsock;
    WSADATA data;
    size_t index;

    _Static_assert(sizeof(WINSOCK) == sizeof(names), "one name for each routine");
    for (index = 0; library != NULL && index < sizeof(names) / sizeof(names[0]); index += 1) {
        routines[index] = GetProcAddress(library, names[index]);
        if (routines[index] == NULL) {
            return 0;
        }
    }
    return library != NULL && winsock->Startup(MAKEWORD(2, 2), &data) == 0;
}

static void Refuse(TASK *task, const char *what, const char *message, int code)
{
    SendError(&task->peer->sender, task->id, what, message, 0, (DWORD)code);
}

/* The last call of Winsock did not work. */
static void Failed(TASK *task, const char *message)
{
    Refuse(task, "failed", message, task->peer->winsock.LastError());
}

/*
 * Waits until a socket can be read or written, or is connected or not; 0 when the request is over, which the other side
 * has been told then. Only a connect fails without being able to be written.
 */
static int Await(TASK *task, SOCKET socket, WANTED wanted)
{
    ULONGLONG now = GetTickCount64();
    ULONGLONG left = now < task->end ? task->end - now : 0;
    struct timeval time = {(LONG)(left / 1000), (LONG)(left % 1000) * 1000};
    fd_set set = {1, {socket}};
    fd_set broken = {1, {socket}};
    int ready = task->peer->winsock.Select(0, wanted == TO_READ ? &set : NULL, wanted == TO_READ ? NULL : &set,
                                           wanted == TO_BE_CONNECTED ? &broken : NULL, &time);

    if (ready == 0) {
        Refuse(task, "timeout", "not in time", WSAETIMEDOUT);
    } else if (ready < 0) {
        Failed(task, "select");
    }
    return ready > 0;
}

/* A place for one more socket, or NULL, which the other side has been told then. */
static SOCKET *NewPlace(TASK *task)
{
    size_t index;

    for (index = 0; index < MAX_SOCKETS; index += 1) {
        if (task->peer->sockets[index] == INVALID_SOCKET) {
            return &task->peer->sockets[index];
        }
    }
    Refuse(task, "busy", "there are 64 sockets already", WSAEMFILE);
    return NULL;
}

/* The socket that the request names, or NULL, which the other side has been told then. */
static SOCKET *Named(TASK *task)
{
    uint64_t number = 0;

    if (JsonGetUnsigned(task->request, "socket", MAX_SOCKETS, &number) && number > 0 &&
        task->peer->sockets[number - 1] != INVALID_SOCKET) {
        return &task->peer->sockets[number - 1];
    }
    Refuse(task, "unknown_handle", "there is no such socket", WSAENOTSOCK);
    return NULL;
}

/* Bytes of a member in hexadecimal, into the peer's data; their number, or -1, which the other side has been told then. */
static int Bytes(TASK *task, const char *name)
{
    const JSON_MEMBER *member = JsonFind(task->request, name);

    if (member != NULL && member->kind == JSON_STRING && member->text_length / 2 <= sizeof(task->peer->data) &&
        HexDecode(member->text, member->text_length, task->peer->data)) {
        return (int)(member->text_length / 2);
    }
    Refuse(task, "bad_argument", "a member is not there or not hexadecimal", WSAEINVAL);
    return -1;
}

/* No call waits by itself: select does, with the request's deadline. */
static SOCKET NeverWaiting(PEER *peer, SOCKET socket)
{
    u_long flag = 1;

    if (socket != INVALID_SOCKET) {
        peer->winsock.Control(socket, FIONBIO, &flag);
    }
    return socket;
}

static SOCKET NewSocket(PEER *peer)
{
    int family = ((const struct sockaddr *)peer->data)->sa_family;

    return NeverWaiting(peer, peer->winsock.Socket(family, SOCK_STREAM, IPPROTO_TCP));
}

static void Forget(PEER *peer, SOCKET *place)
{
    peer->winsock.Close(*place);
    *place = INVALID_SOCKET;
}

static void AddressMember(TEXT *line, const char *name, int(WINAPI *ask)(SOCKET, struct sockaddr *, int *), SOCKET socket)
{
    struct sockaddr_storage address;
    int length = sizeof(address);

    if (ask(socket, (struct sockaddr *)&address, &length) == 0) {
        TextMemberHex(line, name, &address, (size_t)length);
    }
}

/* Answers with a socket and its addresses. */
static void Give(TASK *task, SOCKET *place)
{
    PEER *peer = task->peer;
    TEXT line;

    AnswerStart(&line, peer->line, sizeof(peer->line), task->id, 1);
    TextMemberUnsigned(&line, "socket", (uint64_t)(place - peer->sockets) + 1);
    AddressMember(&line, "local", peer->winsock.LocalName, *place);
    AddressMember(&line, "remote", peer->winsock.RemoteName, *place);
    SendAnswer(&peer->sender, &line, task->id);
}

static void Done(TASK *task)
{
    TEXT line;

    AnswerStart(&line, task->peer->line, sizeof(task->peer->line), task->id, 1);
    SendAnswer(&task->peer->sender, &line, task->id);
}

static void DoListen(TASK *task)
{
    WINSOCK *winsock = &task->peer->winsock;
    SOCKET *place = NewPlace(task);
    int length = place == NULL ? -1 : Bytes(task, "address");
    const struct sockaddr *address = (const struct sockaddr *)task->peer->data;

    if (length < (int)sizeof(*address)) {
        return;
    }
    *place = NewSocket(task->peer);
    if (*place == INVALID_SOCKET) {
        Failed(task, "socket");
    } else if (winsock->Bind(*place, address, length) != 0 || winsock->Listen(*place, BACKLOG) != 0) {
        Failed(task, "bind and listen");
        Forget(task->peer, place);
    } else {
        Give(task, place);
    }
}

static void DoAccept(TASK *task)
{
    SOCKET *listener = Named(task);
    SOCKET *place = listener == NULL ? NULL : NewPlace(task);

    if (place == NULL || !Await(task, *listener, TO_READ)) {
        return;
    }
    *place = NeverWaiting(task->peer, task->peer->winsock.Accept(*listener, NULL, NULL));
    if (*place == INVALID_SOCKET) {
        Failed(task, "accept");
    } else {
        Give(task, place);
    }
}

/* Whether the connection is made; else the other side has been told. */
static int Connected(TASK *task, SOCKET socket, int length)
{
    WINSOCK *winsock = &task->peer->winsock;
    int code = 0;
    int size = sizeof(code);

    if (winsock->Connect(socket, (const struct sockaddr *)task->peer->data, length) != 0) {
        if (winsock->LastError() != WSAEWOULDBLOCK) {
            Failed(task, "connect");
            return 0;
        }
        if (!Await(task, socket, TO_BE_CONNECTED)) {
            return 0;
        }
        winsock->GetOption(socket, SOL_SOCKET, SO_ERROR, (char *)&code, &size);
        if (code != 0) {
            Refuse(task, "failed", "connect", code);
            return 0;
        }
    }
    return 1;
}

static void DoConnect(TASK *task)
{
    SOCKET *place = NewPlace(task);
    int length = place == NULL ? -1 : Bytes(task, "address");

    if (length < (int)sizeof(struct sockaddr)) {
        return;
    }
    *place = NewSocket(task->peer);
    if (*place == INVALID_SOCKET) {
        Failed(task, "socket");
    } else if (Connected(task, *place, length)) {
        Give(task, place);
    } else {
        Forget(task->peer, place);
    }
}

static void DoSend(TASK *task)
{
    SOCKET *place = Named(task);
    int length = place == NULL ? -1 : Bytes(task, "data");
    int sent = 0;

    while (length >= 0 && sent < length) {
        int part;
        if (!Await(task, *place, TO_WRITE)) {
            return;
        }
        part = task->peer->winsock.Send(*place, (const char *)task->peer->data + sent, length - sent, 0);
        if (part >= 0) {
            sent += part;
        } else if (task->peer->winsock.LastError() != WSAEWOULDBLOCK) {
            Failed(task, "send");
            return;
        }
    }
    if (length >= 0) {
        Done(task);
    }
}

static void DoReceive(TASK *task)
{
    PEER *peer = task->peer;
    SOCKET *place = Named(task);
    uint64_t length = 0;
    int got;
    TEXT line;

    if (place == NULL) {
        return;
    }
    if (!JsonGetUnsigned(task->request, "length", MAX_RECEIVE, &length) || length == 0) {
        Refuse(task, "bad_argument", "length must be 1 to 65536", WSAEINVAL);
    } else if (Await(task, *place, TO_READ)) {
        got = peer->winsock.Receive(*place, (char *)peer->data, (int)length, 0);
        if (got < 0) {
            Failed(task, "recv");
            return;
        }
        AnswerStart(&line, peer->line, sizeof(peer->line), task->id, 1);
        TextMemberHex(&line, "data", peer->data, (size_t)got);
        SendAnswer(&peer->sender, &line, task->id);
    }
}

static void DoFinish(TASK *task)
{
    SOCKET *place = Named(task);

    if (place == NULL) {
        return;
    }
    if (task->peer->winsock.Shutdown(*place, SD_SEND) != 0) {
        Failed(task, "shutdown");
    } else {
        Done(task);
    }
}

/* With a lingering time of nothing a close aborts. */
static void DoReset(TASK *task)
{
    static const struct linger at_once = {1, 0};
    SOCKET *place = Named(task);

    if (place != NULL) {
        task->peer->winsock.SetOption(*place, SOL_SOCKET, SO_LINGER, (const char *)&at_once, sizeof(at_once));
        Forget(task->peer, place);
        Done(task);
    }
}

static void DoClose(TASK *task)
{
    SOCKET *place = Named(task);

    if (place != NULL) {
        Forget(task->peer, place);
        Done(task);
    }
}

static const struct {
    const char *verb;
    void (*run)(TASK *task);
} Verbs[] = {
    {"listen", DoListen},   {"accept", DoAccept}, {"connect", DoConnect}, {"send", DoSend},
    {"receive", DoReceive}, {"finish", DoFinish}, {"reset", DoReset},     {"close", DoClose},
};

static void HandleLine(PEER *peer, char *text, size_t length)
{
    TASK task = {peer, NO_ID, 0, NULL};
    const JSON_MEMBER *verb;
    JSON_OBJECT request;
    uint32_t deadline_ms;
    size_t index;

    if (!RequestRead(&peer->sender, text, length, &request, &task.id, &deadline_ms)) {
        return;
    }
    task.request = &request;
    task.end = GetTickCount64() + deadline_ms;
    verb = JsonFind(&request, "verb");
    for (index = 0; verb != NULL && index < sizeof(Verbs) / sizeof(Verbs[0]); index += 1) {
        if (JsonIsText(verb, Verbs[index].verb)) {
            Verbs[index].run(&task);
            return;
        }
    }
    Refuse(&task, "unknown_verb", "known: listen, accept, connect, send, receive, finish, reset, close",
           ERROR_INVALID_FUNCTION);
}

int VerbPeer(int count, char **arguments)
{
    PEER *peer = Allocate(sizeof(*peer));
    LINE_READER reader;
    LINE_RESULT result;
    char *line;
    size_t length;

    (void)arguments;
    if (count != 0) {
        Complain("wskctl: peer takes no arguments\n");
        return EXIT_USAGE;
    }
    if (peer == NULL || !LineReaderStart(&reader, GetStdHandle(STD_INPUT_HANDLE))) {
        Complain("wskctl: no memory\n");
        return EXIT_FAILED;
    }
    memset(peer->sockets, 0xFF, sizeof(peer->sockets)); /* INVALID_SOCKET */
    if (!LoadWinsock(&peer->winsock)) {
        Complain("wskctl: Winsock cannot be loaded\n");
        return EXIT_FAILED;
    }
    SenderStart(&peer->sender, GetStdHandle(STD_OUTPUT_HANDLE));
    while ((result = LineReaderNext(&reader, &line, &length)) != LINE_END) {
        if (result == LINE_READY) {
            HandleLine(peer, line, length);
        } else {
            SendError(&peer->sender, NO_ID, "line_too_long", "a line of more than 1048576 bytes was skipped", 0,
                      ERROR_INVALID_DATA);
        }
    }
    return EXIT_OK; /* the system closes what is open */
}
