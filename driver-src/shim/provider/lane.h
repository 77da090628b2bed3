/*
 * lane.h: work that the provider does in threads of its own.
 *
 * A lane runs its work in order, one at a time; different lanes run in parallel. A socket has two: one for completions
 * (so that requests end in the order in which they were filled) and one for event callbacks (which WSK serialises), so
 * that a callback which takes its time does not hold up completions.
 */
#ifndef WSKLAB_PROVIDER_LANE_H
#define WSKLAB_PROVIDER_LANE_H

#include "object.h"

typedef struct WSKP_WORK {
    LIST_ENTRY Link;
    void (*Run)(struct WSKP_WORK *work); /* without the lock, at PASSIVE_LEVEL; may free the work */
    BOOLEAN Posted;
} WSKP_WORK;

typedef struct WSKP_LANE {
    WSKP_OBJECT *Owner; /* referenced while there is something to do */
    LIST_ENTRY Works;
    LIST_ENTRY Link;   /* among the lanes that have something to do */
    BOOLEAN Scheduled; /* in that list, or a thread runs its work */
} WSKP_LANE;

void WskpLaneInitialize(WSKP_LANE *lane, WSKP_OBJECT *owner);
/* With the lock. Posting what is posted already does nothing. */
void WskpLanePost(WSKP_LANE *lane, WSKP_WORK *work);
/* With the lock: nothing waits and nothing runs. */
BOOLEAN WskpLaneIsIdle(const WSKP_LANE *lane);

void WskpLanesStart(void);
void WskpLanesStop(void);

#endif
