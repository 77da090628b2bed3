/*
 * fuzz_ioctl.c: the whole IOCTL surface: any request in any order, damaged now and then, with peers on the other side.
 */
#include "fuzz.h"

void FuzzStep(SOURCE *source) {
    REQUEST request;
    ULONG choice = Take(source);

    if (choice < 200) {
        MakeAny(source, &request);
        Damage(source, &request);
        Issue(source, &request);
    } else if (choice < 230) {
        PeerAct(source);
    } else {
        Disturb(source);
    }
}
