/*
 * object.h: counted references, for what threads of the provider still use when its owner has let go.
 */
#ifndef WSKLAB_PROVIDER_OBJECT_H
#define WSKLAB_PROVIDER_OBJECT_H

#include "provider.h"

typedef struct WSKP_OBJECT {
    LONG References;
    void (*Free)(struct WSKP_OBJECT *object); /* with the lock */
} WSKP_OBJECT;

/* All with the lock. */
static inline void WskpObjectInitialize(WSKP_OBJECT *object, void (*Free)(WSKP_OBJECT *object)) {
    object->References = 1;
    object->Free = Free;
}

static inline void WskpReference(WSKP_OBJECT *object) {
    WskpAssert(object->References > 0);
    object->References++;
}

static inline void WskpDereference(WSKP_OBJECT *object) {
    WskpAssert(object->References > 0);
    if (--object->References == 0) {
        object->Free(object);
    }
}

#endif
