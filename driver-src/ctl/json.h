/*
 * json.h - a strict parser for one flat JSON object on one line.
 *
 * The control channel's requests are objects whose values are strings, integers, true, false or null:
 * nothing nested, no fractions, no duplicate names. Everything else is refused, so the parser needs no
 * stack and no memory of its own. Plain C: the tests compile this file on Linux with sanitizers.
 */
#ifndef WSKCTL_JSON_H
#define WSKCTL_JSON_H

#include <stddef.h>
#include <stdint.h>

/* More members than any request has; a bound, not a wish. */
#define JSON_MAX_MEMBERS 24

typedef enum JSON_KIND { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_INTEGER, JSON_STRING } JSON_KIND;

typedef struct JSON_MEMBER {
    const char *name; /* decoded UTF-8 inside the caller's line, not terminated */
    size_t name_length;
    JSON_KIND kind;
    const char *text; /* JSON_STRING: decoded UTF-8, not terminated, may hold U+0000 */
    size_t text_length;
    uint64_t magnitude; /* JSON_INTEGER: absolute value */
    int negative;       /* JSON_INTEGER: 1 if a minus sign was there */
} JSON_MEMBER;

typedef struct JSON_OBJECT {
    size_t count;
    JSON_MEMBER members[JSON_MAX_MEMBERS];
} JSON_OBJECT;

/*
 * Parses line[0..length) in place: escapes are decoded into the same bytes, which the members point to.
 * Returns NULL when the line is one flat object, else a sentence that says what is wrong. Members that
 * were complete before the fault stay in object, so that a caller can still tell the request's id.
 */
const char *JsonParseFlatObject(char *line, size_t length, JSON_OBJECT *object);

/* The member of that name (a C string), or NULL. */
const JSON_MEMBER *JsonFind(const JSON_OBJECT *object, const char *name);

/* 1 and *value when the member exists and is an integer in 0..maximum; else 0. */
int JsonGetUnsigned(const JSON_OBJECT *object, const char *name, uint64_t maximum, uint64_t *value);

/* 1 when the member is this text (a C string). */
int JsonIsText(const JSON_MEMBER *member, const char *text);

/* 1 when text[0..length) is well-formed UTF-8 (no overlong forms, no surrogates, at most U+10FFFF). */
int JsonIsUtf8(const char *text, size_t length);

#endif
