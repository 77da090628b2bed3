/* json.c - see json.h. RFC 8259 grammar for the flat subset; UTF-8 by RFC 3629. */
#include "json.h"

#include <string.h>

typedef struct CURSOR {
    char *at;
    char *end;
} CURSOR;

static void SkipBlanks(CURSOR *cursor)
{
    while (cursor->at < cursor->end &&
           (*cursor->at == ' ' || *cursor->at == '\t' || *cursor->at == '\r' || *cursor->at == '\n')) {
        cursor->at += 1;
    }
}

static int TakeByte(CURSOR *cursor, char wanted)
{
    if (cursor->at < cursor->end && *cursor->at == wanted) {
        cursor->at += 1;
        return 1;
    }
    return 0;
}

/* Length of the well-formed UTF-8 sequence at text, 0 when there is none. */
static size_t Utf8SequenceLength(const unsigned char *text, size_t available)
{
    unsigned char first = text[0];
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    size_t length;
    size_t index;

    if (first < 0x80) {
        return 1;
    }
    if (first >= 0xC2 && first <= 0xDF) {
        length = 2;
    } else if (first >= 0xE0 && first <= 0xEF) {
        length = 3;
        low = first == 0xE0 ? 0xA0 : 0x80;
        high = first == 0xED ? 0x9F : 0xBF;
    } else if (first >= 0xF0 && first <= 0xF4) {
        length = 4;
        low = first == 0xF0 ? 0x90 : 0x80;
        high = first == 0xF4 ? 0x8F : 0xBF;
    } else {
        return 0;
    }
    if (available < length || text[1] < low || text[1] > high) {
        return 0;
    }
    for (index = 2; index < length; index += 1) {
        if (text[index] < 0x80 || text[index] > 0xBF) {
            return 0;
        }
    }
    return length;
}

int JsonIsUtf8(const char *text, size_t length)
{
    size_t at = 0;

    while (at < length) {
        size_t step = Utf8SequenceLength((const unsigned char *)text + at, length - at);
        if (step == 0) {
            return 0;
        }
        at += step;
    }
    return 1;
}

static int HexDigit(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    if (digit >= 'a' && digit <= 'f') {
        return digit - 'a' + 10;
    }
    if (digit >= 'A' && digit <= 'F') {
        return digit - 'A' + 10;
    }
    return -1;
}

/* Reads four hexadecimal digits; returns -1 when they are not there. */
static int32_t TakeFourHex(CURSOR *cursor)
{
    int32_t value = 0;
    int index;

    if (cursor->end - cursor->at < 4) {
        return -1;
    }
    for (index = 0; index < 4; index += 1) {
        int digit = HexDigit(cursor->at[index]);
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    cursor->at += 4;
    return value;
}

/* Writes code as UTF-8; never longer than the escape it came from (6 bytes give at most 3, 12 give 4). */
static char *PutUtf8(char *out, uint32_t code)
{
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xC0 | (code >> 6));
        *out++ = (char)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *out++ = (char)(0xE0 | (code >> 12));
        *out++ = (char)(0x80 | ((code >> 6) & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    } else {
        *out++ = (char)(0xF0 | (code >> 18));
        *out++ = (char)(0x80 | ((code >> 12) & 0x3F));
        *out++ = (char)(0x80 | ((code >> 6) & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    }
    return out;
}

/* The part of an escape after its backslash. */
static const char *DecodeEscape(CURSOR *cursor, char **out)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    const char *found;
    int32_t code;
    int32_t low;

    if (cursor->at == cursor->end) {
        return "line ends inside an escape";
    }
    if (*cursor->at != 'u') {
        /* The terminating zero of `from` must not match a zero byte of the line. */
        found = *cursor->at == '\0' ? NULL : strchr(from, *cursor->at);
        if (found == NULL) {
            return "unknown escape";
        }
        *(*out)++ = to[found - from];
        cursor->at += 1;
        return NULL;
    }
    cursor->at += 1;
    code = TakeFourHex(cursor);
    if (code < 0) {
        return "bad \\u escape";
    }
    if (code >= 0xDC00 && code <= 0xDFFF) {
        return "low surrogate without its high one";
    }
    if (code >= 0xD800 && code <= 0xDBFF) {
        if (!TakeByte(cursor, '\\') || !TakeByte(cursor, 'u')) {
            return "high surrogate without its low one";
        }
        low = TakeFourHex(cursor);
        if (low < 0xDC00 || low > 0xDFFF) {
            return "high surrogate without its low one";
        }
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    *out = PutUtf8(*out, (uint32_t)code);
    return NULL;
}

static const char *ParseString(CURSOR *cursor, const char **text, size_t *length)
{
    char *out;
    size_t step;
    const char *fault;

    if (!TakeByte(cursor, '"')) {
        return "string expected";
    }
    *text = cursor->at;
    out = cursor->at;
    while (cursor->at < cursor->end) {
        unsigned char byte = (unsigned char)*cursor->at;
        if (byte == '"') {
            *length = (size_t)(out - *text);
            cursor->at += 1;
            return NULL;
        }
        if (byte < 0x20) {
            return "control character in a string";
        }
        if (byte == '\\') {
            cursor->at += 1;
            fault = DecodeEscape(cursor, &out);
            if (fault != NULL) {
                return fault;
            }
            continue;
        }
        step = Utf8SequenceLength((unsigned char *)cursor->at, (size_t)(cursor->end - cursor->at));
        if (step == 0) {
            return "not UTF-8";
        }
        memmove(out, cursor->at, step);
        out += step;
        cursor->at += step;
    }
    return "string without end";
}

static const char *ParseInteger(CURSOR *cursor, JSON_MEMBER *member)
{
    char *first;

    member->kind = JSON_INTEGER;
    member->negative = TakeByte(cursor, '-');
    member->magnitude = 0;
    first = cursor->at;
    while (cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9') {
        uint64_t digit = (uint64_t)(*cursor->at - '0');
        if (member->magnitude > (UINT64_MAX - digit) / 10) {
            return "integer too large";
        }
        member->magnitude = member->magnitude * 10 + digit;
        cursor->at += 1;
    }
    if (cursor->at == first) {
        return "value expected";
    }
    if (*first == '0' && cursor->at - first > 1) {
        return "integer with a leading zero";
    }
    if (cursor->at < cursor->end && (*cursor->at == '.' || *cursor->at == 'e' || *cursor->at == 'E')) {
        return "only integers are known";
    }
    return NULL;
}

static int TakeWord(CURSOR *cursor, const char *word)
{
    size_t length = strlen(word);

    if ((size_t)(cursor->end - cursor->at) < length || memcmp(cursor->at, word, length) != 0) {
        return 0;
    }
    cursor->at += length;
    return 1;
}

static const char *ParseValue(CURSOR *cursor, JSON_MEMBER *member)
{
    if (cursor->at == cursor->end) {
        return "value expected";
    }
    switch (*cursor->at) {
    case '"':
        member->kind = JSON_STRING;
        return ParseString(cursor, &member->text, &member->text_length);
    case '{':
    case '[':
        return "nested values are not known";
    default:
        break;
    }
    if (TakeWord(cursor, "true")) {
        member->kind = JSON_TRUE;
        return NULL;
    }
    if (TakeWord(cursor, "false")) {
        member->kind = JSON_FALSE;
        return NULL;
    }
    if (TakeWord(cursor, "null")) {
        member->kind = JSON_NULL;
        return NULL;
    }
    return ParseInteger(cursor, member);
}

static const char *ParseMember(CURSOR *cursor, JSON_OBJECT *object)
{
    JSON_MEMBER member;
    const char *fault;
    size_t index;

    if (object->count == JSON_MAX_MEMBERS) {
        return "too many members";
    }
    memset(&member, 0, sizeof(member));
    fault = ParseString(cursor, &member.name, &member.name_length);
    if (fault != NULL) {
        return fault;
    }
    for (index = 0; index < object->count; index += 1) {
        if (object->members[index].name_length == member.name_length &&
            memcmp(object->members[index].name, member.name, member.name_length) == 0) {
            return "a name appears twice";
        }
    }
    SkipBlanks(cursor);
    if (!TakeByte(cursor, ':')) {
        return "colon expected";
    }
    SkipBlanks(cursor);
    fault = ParseValue(cursor, &member);
    if (fault != NULL) {
        return fault;
    }
    object->members[object->count] = member;
    object->count += 1;
    return NULL;
}

const char *JsonParseFlatObject(char *line, size_t length, JSON_OBJECT *object)
{
    CURSOR cursor = {line, line + length};
    const char *fault;

    object->count = 0;
    SkipBlanks(&cursor);
    if (!TakeByte(&cursor, '{')) {
        return "object expected";
    }
    SkipBlanks(&cursor);
    if (!TakeByte(&cursor, '}')) {
        for (;;) {
            SkipBlanks(&cursor);
            fault = ParseMember(&cursor, object);
            if (fault != NULL) {
                return fault;
            }
            SkipBlanks(&cursor);
            if (TakeByte(&cursor, '}')) {
                break;
            }
            if (!TakeByte(&cursor, ',')) {
                return "comma or closing brace expected";
            }
        }
    }
    SkipBlanks(&cursor);
    return cursor.at == cursor.end ? NULL : "something follows the object";
}

const JSON_MEMBER *JsonFind(const JSON_OBJECT *object, const char *name)
{
    size_t length = strlen(name);
    size_t index;

    for (index = 0; index < object->count; index += 1) {
        if (object->members[index].name_length == length &&
            memcmp(object->members[index].name, name, length) == 0) {
            return &object->members[index];
        }
    }
    return NULL;
}

int JsonIsText(const JSON_MEMBER *member, const char *text)
{
    return member->kind == JSON_STRING && member->text_length == strlen(text) &&
           memcmp(member->text, text, member->text_length) == 0;
}

int JsonGetUnsigned(const JSON_OBJECT *object, const char *name, uint64_t maximum, uint64_t *value)
{
    const JSON_MEMBER *member = JsonFind(object, name);

    if (member == NULL || member->kind != JSON_INTEGER || member->magnitude > maximum ||
        (member->negative && member->magnitude != 0)) {
        return 0;
    }
    *value = member->magnitude;
    return 1;
}
