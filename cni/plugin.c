/* The CNI executables `spiderpool`, `coordinator` and `ifacer`. All three are this program; the name
 * under which the program is started selects its role.
 *
 * Purpose: send one CNI call to the node agent, and print the agent's answer. A container runtime
 * starts this process for every call of every Pod, so the process does nothing else.
 * Guarantees: the program writes at most one result or CNI error object to standard output (calls that
 * have nothing to return write none); every call ends within the deadlines below; VERSION needs no agent.
 * It must never decide anything about addresses, allocate memory, or write files outside LOG_DIRECTORY.
 *
 * The socket is the unix stream socket `<ipam_unix_socket_path>.fast`. (The path without `.fast` is
 * the HTTP API.) A connection carries one request and one answer, with big-endian integers
 * (docs/reference/cni-executables.md):
 *
 *     request   "OWC1" | u32 n | n bytes: environment block, then standard input unchanged
 *     answer    u8 exit status | u32 n | n bytes for standard output
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Limits. Those with #ifndef can be set when the program is compiled for tests. */
#define REQUEST_BYTES_MAX (1u << 20)
#define ANSWER_BYTES_MAX (4u << 20)
#define VARIABLES_MAX 512 /* environment variables that are sent to the agent */
#define JSON_DEPTH_MAX 512
#define MESSAGE_BYTES_MAX (256u << 10)
#define VERSION_CHARACTERS_MAX 16
#define QUOTED_BYTES_MAX 200 /* how much of a wrong value a message quotes */
#define READ_BYTES_MAX (64u << 10)
#ifndef ADD_DEADLINE_S
#define ADD_DEADLINE_S 100 /* for ADD, DEL and GC: from the connection to the last byte of the answer */
#endif
#ifndef CHECK_DEADLINE_S
#define CHECK_DEADLINE_S 30
#endif
#ifndef STATUS_DEADLINE_S
#define STATUS_DEADLINE_S 10
#endif
#ifndef CONNECT_DEADLINE_S
#define CONNECT_DEADLINE_S 5
#endif
#ifndef STDIN_DEADLINE_S
#define STDIN_DEADLINE_S 10
#endif
#ifndef STDOUT_DEADLINE_S
#define STDOUT_DEADLINE_S 10
#endif
#ifndef SOCKET_PATH
#define SOCKET_PATH "/var/run/spidernet/spiderpool.sock"
#endif
#ifndef LOG_DIRECTORY
#define LOG_DIRECTORY "/var/log/spidernet"
#endif
#define STDIN_OF_VERSION_DEADLINE_S 1
#define FRAMED_SUFFIX ".fast"
#define SOCKET_KEY "ipam_unix_socket_path"
#define LOG_MEBIBYTES_MAX 100
#define LATEST_VERSION "1.1.0"
#define KNOWN_VERBS "ADD, DEL, CHECK, GC, STATUS, VERSION"
#define UNHEALTHY "unhealthy spiderpool-agent backend, failed to check: "

/* Codes below 100 are defined by the CNI specification, others in docs/reference/cni-executables.md. */
enum { INVALID_ENVIRONMENT = 4, IO_FAILURE = 5, UNDECODABLE = 6, INVALID_CONFIG = 7,
       TRY_AGAIN_LATER = 11, NOT_AVAILABLE = 50, FOREIGN_ANSWER = 100 };

struct plugin {
    const char *name, *role, *versions; /* versions: the members of a JSON array */
    const char *add_failed, *del_failed; /* the beginning of the message if no answer arrives */
    const char *log_section, *log_path_key, *log_level_key, *log_size_key;
    bool is_ipam; /* its options are only under "ipam"; its name is not sent to the agent */
    bool only_add; /* DEL, CHECK, GC and STATUS succeed and do nothing */
    bool del_needs_no_agent; /* DEL also succeeds if no agent receives it */
};

#define VERSIONS "\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\""
static const struct plugin plugins[] = {
    {"spiderpool", "IPAM", VERSIONS,
     "spiderpool IP allocation error: ", "spiderpool IP release error: ",
     NULL, "log_file_path", "log_level", "log_file_max_size", true, false, false},
    {"coordinator", "chained behind a main plugin", VERSIONS,
     "coordinator failed to set up the Pod's network: ",
     "coordinator failed to clean up the Pod's network: ",
     "logOptions", "logFile", "logLevel", "logMaxSize", false, false, true},
    {"ifacer", "prepares the master interface, first in a chain",
     "\"0.1.0\",\"0.2.0\"," VERSIONS, UNHEALTHY, UNHEALTHY,
     NULL, "log_file_path", "log_level", "log_file_max_size", false, true, false},
};

/* A range of bytes, without a NUL at its end. */
struct text { const char *at; size_t length; };
#define NO_TEXT ((struct text){NULL, 0})

/* A buffer of fixed size; bytes beyond its capacity are dropped. */
struct buffer { char *at; size_t length, capacity; };

struct failure {
    int code;
    bool needs_log; /* the agent may not have logged the failure: append it to the log */
    bool not_received; /* no agent has received the call */
    struct buffer message;
    const char *details;
};

static const struct plugin *plugin = &plugins[0];
static char request[8 + REQUEST_BYTES_MAX + 1];
static char answer[5 + ANSWER_BYTES_MAX];
static char message[MESSAGE_BYTES_MAX];

/* ------------------------------------------------------------------------------------- texts */

static void put(struct buffer *to, const char *at, size_t length) {
    if (length > to->capacity - to->length) length = to->capacity - to->length;
    memcpy(to->at + to->length, at, length);
    to->length += length;
}

static void puts_to(struct buffer *to, const char *text) { put(to, text, strlen(text)); }

static void put_number(struct buffer *to, unsigned long long number) {
    char digits[24];
    put(to, digits, (size_t)snprintf(digits, sizeof digits, "%llu", number));
}

/* Return the length of the UTF-8 character that begins with `first`, or 0 if no character does. */
static size_t utf8_length(unsigned char first) {
    if (first < 0x80) return 1;
    if (first >= 0xC2 && first <= 0xDF) return 2;
    if (first >= 0xE0 && first <= 0xEF) return 3;
    if (first >= 0xF0 && first <= 0xF4) return 4;
    return 0;
}

/* Return the length of the UTF-8 character at `at`, or 0 if the bytes are not UTF-8. Then `*bad` is the
 * number of bytes that one U+FFFD replaces (Unicode 3.9, maximal subparts). */
static size_t utf8(const unsigned char *at, size_t length, size_t *bad) {
    unsigned char first = at[0], low = 0x80, high = 0xBF;
    size_t size = utf8_length(first);
    *bad = 1;
    if (size <= 1) return size;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F; /* no surrogates */
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
    for (size_t index = 1; index < size; index++, low = 0x80, high = 0xBF) {
        if (index >= length || at[index] < low || at[index] > high) {
            *bad = index;
            return 0;
        }
    }
    return size;
}

static bool is_utf8(struct text text) {
    size_t bad, step;
    for (size_t at = 0; at < text.length; at += step)
        if (!(step = utf8((const unsigned char *)text.at + at, text.length - at, &bad))) return false;
    return true;
}

/* Append bytes as a JSON string; bytes that are not UTF-8 become U+FFFD. */
static void put_json(struct buffer *to, const char *at, size_t length) {
    puts_to(to, "\"");
    for (size_t index = 0, step, bad; index < length; index += step) {
        unsigned char byte = (unsigned char)at[index];
        step = utf8((const unsigned char *)at + index, length - index, &bad);
        if (!step) {
            puts_to(to, "\xEF\xBF\xBD");
            step = bad;
        } else if (byte == '"' || byte == '\\') {
            put(to, (char[]){'\\', (char)byte}, 2);
        } else if (byte < 0x20) {
            char escaped[8];
            put(to, escaped, (size_t)snprintf(escaped, sizeof escaped, "\\u%04x", byte));
        } else {
            put(to, at + index, step);
        }
    }
    puts_to(to, "\"");
}

/* Fill `failure`. The message is `first` followed by `second`. */
static void fail(struct failure *failure, int code, const char *first, const char *second,
                 const char *details) {
    *failure = (struct failure){code, false, false, {message, 0, sizeof message}, details};
    puts_to(&failure->message, first);
    puts_to(&failure->message, second);
}

/* -------------------------------------------------------------------------------------- JSON */

static const char *skip_space(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
    return at;
}

/* Return the end of the JSON string that begins at `at`, or NULL if it is not a valid string. */
static const char *skip_string(const char *at, const char *end) {
    if (at >= end || *at != '"') return NULL;
    for (at++; at < end; at++) {
        if (*at == '"') return at + 1;
        if ((unsigned char)*at < 0x20) return NULL;
        if (*at != '\\') continue;
        if (++at >= end || !memchr("\"\\/bfnrtu", *at, 9)) return NULL;
        if (*at != 'u') continue;
        for (int digit = 0; digit < 4; digit++)
            if (++at >= end || !memchr("0123456789abcdefABCDEF", *at, 22)) return NULL;
    }
    return NULL;
}

static const char *skip_digits(const char *at, const char *end) {
    const char *from = at;
    while (at < end && *at >= '0' && *at <= '9') at++;
    return at == from ? NULL : at;
}

static const char *skip_number(const char *at, const char *end) {
    if (at < end && *at == '-') at++;
    if (at < end && *at == '0') at++;
    else if (!(at = skip_digits(at, end))) return NULL;
    if (at < end && *at == '.' && !(at = skip_digits(at + 1, end))) return NULL;
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-')) at++;
        return skip_digits(at, end);
    }
    return at;
}

/* Return the end of the JSON value (RFC 8259) that begins at `at`, or NULL if it is not valid or is
 * nested too deeply. */
static const char *skip_value(const char *at, const char *end, int depth) {
    static const char *const literals[] = {"true", "false", "null"};
    if (at >= end || depth > JSON_DEPTH_MAX) return NULL;
    if (*at == '"') return skip_string(at, end);
    for (size_t index = 0; index < 3; index++) {
        size_t length = strlen(literals[index]);
        if ((size_t)(end - at) >= length && !memcmp(at, literals[index], length)) return at + length;
    }
    if (*at != '{' && *at != '[') return skip_number(at, end);
    char close = *at == '{' ? '}' : ']';
    at = skip_space(at + 1, end);
    if (at < end && *at == close) return at + 1;
    while (at) {
        if (close == '}') {
            if (!(at = skip_string(at, end))) return NULL;
            at = skip_space(at, end);
            if (at >= end || *at != ':') return NULL;
            at = skip_space(at + 1, end);
        }
        if (!(at = skip_value(at, end, depth + 1))) return NULL;
        at = skip_space(at, end);
        if (at < end && *at == close) return at + 1;
        if (at >= end || *at != ',') return NULL;
        at = skip_space(at + 1, end);
    }
    return NULL;
}

/* Return the JSON value in `text` without the white space around it, or NO_TEXT if it is not JSON. */
static struct text document_in(struct text text) {
    const char *end = text.at + text.length, *from = skip_space(text.at, end);
    const char *after = is_utf8(text) ? skip_value(from, end, 0) : NULL;
    if (!after || skip_space(after, end) != end) return NO_TEXT;
    return (struct text){from, (size_t)(after - from)};
}

/* Return the value of four hexadecimal digits. */
static int hex(const char *at) {
    int value = 0;
    for (int digit = 0; digit < 4; digit++)
        value = value * 16 + (at[digit] <= '9' ? at[digit] - '0' : (at[digit] | 32) - 'a' + 10);
    return value;
}

/* Write a code point as UTF-8; return its length. */
static size_t encode_utf8(unsigned point, char *to) {
    size_t length = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    static const unsigned char first_bits[] = {0, 0x00, 0xC0, 0xE0, 0xF0};
    for (size_t index = length - 1; index > 0; index--, point >>= 6) to[index] = (char)(0x80 | (point & 63));
    to[0] = (char)(first_bits[length] | point);
    return length;
}

/* Decode a valid JSON string to `to` and append a NUL. Return false if the value is not a string, has
 * a lone surrogate, or needs more than `capacity` bytes. */
static bool decode_string(struct text string, char *to, size_t capacity, size_t *length) {
    *length = 0;
    if (string.length < 2 || string.at[0] != '"') return false;
    for (const char *at = string.at + 1, *end = string.at + string.length - 1; at < end;) {
        char piece[4];
        size_t size = 1;
        if (*at != '\\') {
            piece[0] = *at++;
        } else if (at[1] != 'u') {
            const char *escape = strchr("b\bf\fn\nr\rt\t", at[1]);
            piece[0] = escape ? escape[1] : at[1];
            at += 2;
        } else {
            unsigned point = (unsigned)hex(at + 2);
            at += 6;
            if (point >= 0xD800 && point <= 0xDBFF && end - at >= 6 && at[0] == '\\' && at[1] == 'u') {
                unsigned low = (unsigned)hex(at + 2);
                if (low < 0xDC00 || low > 0xDFFF) return false;
                point = 0x10000 + ((point & 0x3FF) << 10) + (low & 0x3FF);
                at += 6;
            }
            if (point >= 0xD800 && point <= 0xDFFF) return false;
            size = encode_utf8(point, piece);
        }
        if (*length + size >= capacity) return false;
        memcpy(to + *length, piece, size);
        *length += size;
    }
    to[*length] = 0;
    return true;
}

/* Return the value of a key in a valid object, or NO_TEXT. If the key occurs twice, the last value counts. */
static struct text member(struct text object, const char *key) {
    struct text result = NO_TEXT;
    if (!object.length || object.at[0] != '{') return result;
    const char *end = object.at + object.length, *at = skip_space(object.at + 1, end);
    while (*at == '"') {
        char name[64];
        size_t length;
        const char *after = skip_string(at, end);
        bool is_key = decode_string((struct text){at, (size_t)(after - at)}, name, sizeof name, &length)
                      && length == strlen(key) && !memcmp(name, key, length);
        at = skip_space(skip_space(after, end) + 1, end);
        after = skip_value(at, end, 0);
        if (is_key) result = (struct text){at, (size_t)(after - at)};
        at = skip_space(after, end);
        if (*at == ',') at = skip_space(at + 1, end);
    }
    return result;
}

/* Return the object with the options: `ipam`, or if a chained plugin has none, the whole configuration. */
static struct text options_in(struct text document) {
    struct text ipam = member(document, "ipam");
    return ipam.at || plugin->is_ipam ? ipam : document;
}

/* Return the string value of `key` without parsing, or NO_TEXT if only parsing can find it. `key` includes
 * its quotes; the value is returned without quotes. */
static struct text string_after(struct text text, const char *key) {
    const char *end = text.at + text.length;
    const char *at = memmem(text.at, text.length, key, strlen(key));
    if (!at) return NO_TEXT;
    at = skip_space(at + strlen(key), end);
    if (at >= end || *at != ':') return NO_TEXT;
    const char *from = skip_space(at + 1, end);
    const char *close = from < end && *from == '"' ? memchr(from + 1, '"', (size_t)(end - from - 1)) : NULL;
    if (!close || memchr(from, '\\', (size_t)(close - from))) return NO_TEXT;
    return (struct text){from + 1, (size_t)(close - from - 1)};
}

/* ------------------------------------------------------------------------- the call's input */

static bool is_version(struct text text) {
    if (!text.length || text.length > VERSION_CHARACTERS_MAX) return false;
    for (size_t index = 0; index < text.length; index++) {
        bool is_digit = text.at[index] >= '0' && text.at[index] <= '9';
        bool is_inner_dot = text.at[index] == '.' && index && index + 1 < text.length
                            && text.at[index - 1] != '.';
        if (!is_digit && !is_inner_dot) return false;
    }
    return true;
}

/* Write the path of the agent's framed socket to `path`; return false with `failure` set if the
 * configured path is not valid. */
static bool framed_socket_path(struct text netconf, char *path, size_t capacity, struct failure *failure) {
    static const char key[] = "\"" SOCKET_KEY "\"";
    size_t length_max = capacity - sizeof FRAMED_SUFFIX, length = 0;
    const char *first = memmem(netconf.at, netconf.length, key, sizeof key - 1);
    const char *after = first ? first + sizeof key - 1 : netconf.at;
    bool is_repeated = first && memmem(after, (size_t)(netconf.at + netconf.length - after), key, sizeof key - 1);
    struct text written = NO_TEXT; /* as in the configuration, with escapes and without quotes */
    bool needs_parsing = is_repeated || (netconf.length && memchr(netconf.at, '\\', netconf.length));
    if (first && !needs_parsing) {
        written = string_after(netconf, key);
        needs_parsing = !written.at;
    }
    path[0] = 0;
    if (needs_parsing) {
        struct text document = document_in(netconf);
        if (!document.at) {
            fail(failure, UNDECODABLE, "the network configuration is not JSON", "", "");
            return false;
        }
        struct text value = member(options_in(document), SOCKET_KEY);
        bool is_set = value.at && !(value.length == 4 && !memcmp(value.at, "null", 4));
        if (is_set && value.at[0] != '"') {
            fail(failure, INVALID_CONFIG, "ipam." SOCKET_KEY " must be a string, not ", "", "");
            put(&failure->message, value.at, value.length < QUOTED_BYTES_MAX ? value.length : QUOTED_BYTES_MAX);
            return false;
        }
        written = is_set ? (struct text){value.at + 1, value.length - 2} : NO_TEXT;
        if (is_set && !decode_string(value, path, length_max + 1, &length)) length = length_max + 1;
    } else if (written.length <= length_max) {
        length = written.length;
        if (length) memcpy(path, written.at, length);
    } else {
        length = length_max + 1;
    }
    if (!length) {
        length = sizeof SOCKET_PATH - 1;
        memcpy(path, SOCKET_PATH, length);
    }
    if (length > length_max || path[0] != '/' || memchr(path, 0, length)) {
        fail(failure, INVALID_CONFIG, "ipam." SOCKET_KEY " ", "",
             "an absolute path of at most 102 bytes is needed");
        put(&failure->message, "'", 1);
        put(&failure->message, written.at, written.length < QUOTED_BYTES_MAX ? written.length : QUOTED_BYTES_MAX);
        puts_to(&failure->message, "' cannot be the path of a socket");
        return false;
    }
    memcpy(path + length, FRAMED_SUFFIX, sizeof FRAMED_SUFFIX);
    return true;
}

static void fail_too_large(struct failure *failure) {
    fail(failure, INVALID_CONFIG, "environment and network configuration are too large", "",
         "at most 1048576 bytes together, and at most 512 variables");
}

/* Write the request frame to `request`; return the length, or 0 with `failure` set. The frame contains
 * only the variables that the agent needs. */
static size_t framed_request(char **environment, const char *netconf, size_t netconf_length,
                             struct failure *failure) {
    static const char *const prefixes[] = {"CNI_", "TRACEPARENT=", "TRACESTATE=", "BAGGAGE="};
    struct buffer to = {request + 8, 0, REQUEST_BYTES_MAX + 1};
    const char *variables[VARIABLES_MAX];
    size_t count = 0;
    bool is_too_large = false;
    for (char **variable = environment; *variable && !is_too_large; variable++) {
        const char *equals = strchr(*variable, '=');
        bool is_needed = false, is_repeated = false;
        for (size_t index = 0; equals && index < 4; index++)
            is_needed |= !strncmp(*variable, prefixes[index], strlen(prefixes[index])) && equals - *variable >= 4;
        for (size_t index = 0; is_needed && index < count; index++)
            is_repeated |= !strncmp(*variable, variables[index], (size_t)(equals - *variable) + 1);
        if (!is_needed || is_repeated) continue;
        if (count == VARIABLES_MAX) {
            is_too_large = true;
        } else {
            variables[count++] = *variable;
            put(&to, *variable, strlen(*variable) + 1);
        }
    }
    if (!plugin->is_ipam) {
        puts_to(&to, "ORBWEAVER_PLUGIN=");
        put(&to, plugin->name, strlen(plugin->name) + 1);
    }
    put(&to, "", 1);
    put(&to, netconf, netconf_length);
    if (is_too_large || to.length > REQUEST_BYTES_MAX) {
        fail_too_large(failure);
        return 0;
    }
    uint32_t length = (uint32_t)to.length;
    memcpy(request, (char[]){'O', 'W', 'C', '1', (char)(length >> 24), (char)(length >> 16),
                             (char)(length >> 8), (char)length}, 8);
    return 8 + to.length;
}

/* ---------------------------------------------------------------------------------- waiting */

static long long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Wait until `fd` is ready. Return false with errno set: after `deadline_ms`, errno is ETIMEDOUT. */
static bool wait_ready(int fd, short events, long long deadline_ms) {
    for (;;) {
        long long left_ms = deadline_ms - now_ms();
        struct pollfd descriptor = {fd, events, 0};
        int ready_count = left_ms > 0 ? poll(&descriptor, 1, (int)left_ms) : 0;
        if (ready_count > 0) return true;
        if (!ready_count) errno = ETIMEDOUT;
        if (errno != EINTR) return false;
    }
}

static void append_reason(struct failure *failure, int deadline_s) {
    if (errno != ETIMEDOUT) {
        puts_to(&failure->message, strerror(errno));
        return;
    }
    puts_to(&failure->message, "timed out after ");
    put_number(&failure->message, (unsigned)deadline_s);
    puts_to(&failure->message, " s");
}

/* Read all of standard input into `to`; return its length, or -1 with `failure` set. */
static ssize_t read_netconf(char *to, struct failure *failure) {
    long long deadline_ms = now_ms() + STDIN_DEADLINE_S * 1000LL;
    size_t length = 0;
    for (;;) {
        ssize_t got = wait_ready(0, POLLIN, deadline_ms) ? read(0, to + length, READ_BYTES_MAX) : -1;
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (got < 0) {
            fail(failure, IO_FAILURE, "cannot read the network configuration from stdin: ", "", "");
            append_reason(failure, STDIN_DEADLINE_S);
            return -1;
        }
        if (!got) return (ssize_t)length;
        length += (size_t)got;
        if (length > REQUEST_BYTES_MAX) {
            fail_too_large(failure);
            return -1;
        }
    }
}

/* Write all bytes to standard output; return false after a failure. A write of at most PIPE_BUF bytes
 * to a ready pipe never blocks. */
static bool write_output(const char *at, size_t length) {
    long long deadline_ms = now_ms() + STDOUT_DEADLINE_S * 1000LL;
    while (length) {
        size_t piece = length < PIPE_BUF ? length : PIPE_BUF;
        ssize_t wrote = wait_ready(1, POLLOUT, deadline_ms) ? write(1, at, piece) : -1;
        if (wrote < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (wrote < 0) return false;
        at += wrote;
        length -= (size_t)wrote;
    }
    return true;
}

/* ---------------------------------------------------------------------------------- the agent */

/* Return a socket that is connected to the agent, or -1 with errno set. */
static int connect_agent(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {CONNECT_DEADLINE_S, 0};
    long long deadline_ms = now_ms() + CONNECT_DEADLINE_S * 1000LL;
    int agent = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (agent < 0) return -1;
    memcpy(address.sun_path, path, strlen(path) + 1);
    setsockopt(agent, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    while (connect(agent, (struct sockaddr *)&address, sizeof address)) {
        if (errno == EINTR && now_ms() < deadline_ms) continue;
        if (errno == EAGAIN || errno == EINTR) errno = ETIMEDOUT; /* the queue of the listening socket is full */
        int why = errno;
        close(agent);
        errno = why;
        return -1;
    }
    return agent;
}

/* Send the first `length` bytes of `request`; return false with errno set after a failure. */
static bool send_request(int agent, size_t length, long long deadline_ms) {
    for (size_t done = 0; done < length;) {
        if (!wait_ready(agent, POLLOUT, deadline_ms)) return false;
        ssize_t wrote = send(agent, request + done, length - done, MSG_DONTWAIT | MSG_NOSIGNAL);
        /* The agent may reject a request before it has read all of it: its answer has the reason. */
        if (wrote < 0 && (errno == EPIPE || errno == ECONNRESET)) return true;
        if (wrote < 0 && errno != EINTR && errno != EAGAIN) return false;
        if (wrote > 0) done += (size_t)wrote;
    }
    return true;
}

/* Read the answer into `answer` and return its length. After a failure return -1; errno is the reason, or
 * 0 if the agent closed the connection early. If the announced length is too large for an answer of the
 * agent, read no more, return the announced length and set `is_foreign`. */
static ssize_t receive_answer(int agent, long long deadline_ms, bool *is_foreign) {
    size_t length = 0, expected = 5;
    while (length < expected) {
        ssize_t got = wait_ready(agent, POLLIN, deadline_ms)
            ? recv(agent, answer + length, expected - length, MSG_DONTWAIT) : -1;
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (!got) errno = 0;
        if (got <= 0) return -1;
        length += (size_t)got;
        if (length == 5 && expected == 5) {
            const unsigned char *head = (const unsigned char *)answer;
            expected += (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | head[4];
            *is_foreign = expected > 5 + ANSWER_BYTES_MAX;
            if (*is_foreign) return (ssize_t)(expected - 5);
        }
    }
    return (ssize_t)length;
}

/* Send the request and read the answer; return the length of the answer, or -1 with `failure` set. */
static ssize_t exchange(const char *verb, const char *path, size_t length, struct failure *failure) {
    bool is_status = !strcmp(verb, "STATUS"), is_foreign = false;
    int code = is_status ? NOT_AVAILABLE : TRY_AGAIN_LATER;
    int deadline_s = is_status ? STATUS_DEADLINE_S
                   : !strcmp(verb, "CHECK") ? CHECK_DEADLINE_S : ADD_DEADLINE_S;
    int agent = connect_agent(path);
    if (agent < 0) {
        int why = errno;
        fail(failure, code, UNHEALTHY, path, "is the agent running, and is this its socket?");
        puts_to(&failure->message, ": ");
        errno = why;
        append_reason(failure, CONNECT_DEADLINE_S);
        failure->needs_log = failure->not_received = true;
        return -1;
    }
    long long deadline_ms = now_ms() + deadline_s * 1000LL;
    ssize_t got = -1;
    if (send_request(agent, length, deadline_ms)) got = receive_answer(agent, deadline_ms, &is_foreign);
    int why = errno;
    /* Closed before standard output is written: if the caller closed fd 1, the socket is fd 1. */
    close(agent);
    if (got >= 0 && !is_foreign) return got;
    if (is_foreign) {
        fail(failure, FOREIGN_ANSWER, UNHEALTHY, "not an answer of the agent: it announces ",
             "at most 4194304 bytes are accepted");
        put_number(&failure->message, (unsigned long long)got);
        puts_to(&failure->message, " bytes");
    } else {
        const char *prefix = !strcmp(verb, "ADD") ? plugin->add_failed
                           : !strcmp(verb, "DEL") ? plugin->del_failed : UNHEALTHY;
        fail(failure, code, prefix, "",
             "the agent may have completed the call; it is safe to repeat it");
        errno = why;
        if (why) append_reason(failure, deadline_s);
        else puts_to(&failure->message, "the agent closed the connection before its answer was complete");
    }
    failure->needs_log = true;
    return -1;
}

/* --------------------------------------------------------------------------------- failures */

/* Open the log file at `path` if it is directly in LOG_DIRECTORY, otherwise the default file there.
 * Return -1 if it cannot be opened. A network configuration must not make root write anywhere else. */
static int open_log(const char *path) {
    char default_path[PATH_MAX];
    const char *name = strrchr(path, '/');
    bool is_inside = name && (size_t)(name - path) == sizeof LOG_DIRECTORY - 1
                    && !memcmp(path, LOG_DIRECTORY, sizeof LOG_DIRECTORY - 1);
    if (!is_inside || !name[1] || !strcmp(name, "/.") || !strcmp(name, "/..")) {
        snprintf(default_path, sizeof default_path, LOG_DIRECTORY "/%s.log", plugin->name);
        path = default_path;
    }
    /* O_NONBLOCK and O_NOFOLLOW: the path may be a FIFO without a reader, or a symbolic link. */
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC, 0600);
}

/* Append one JSON line to the agent's log file; a failure to do so is ignored. The agent rotates the
 * file; a file above its size limit gets no line. */
static void append_to_log(const struct failure *failure, struct text options) {
    struct text log_options = plugin->log_section ? member(options, plugin->log_section) : options;
    struct text level = member(log_options, plugin->log_level_key), size = member(log_options, plugin->log_size_key);
    char path[PATH_MAX];
    size_t length;
    long long mebibytes = LOG_MEBIBYTES_MAX, number = 0;
    if (level.length == 7 && (!strncasecmp(level.at, "\"fatal\"", 7) || !strncasecmp(level.at, "\"panic\"", 7)))
        return;
    if (size.length > 1 && size.at[0] == '"') size = (struct text){size.at + 1, size.length - 2};
    for (size_t index = 0; index < size.length && index < 9 && number >= 0; index++)
        number = size.at[index] >= '0' && size.at[index] <= '9' ? number * 10 + size.at[index] - '0' : -1;
    if (number > 0) mebibytes = number;
    if (!decode_string(member(log_options, plugin->log_path_key), path, sizeof path, &length) || strlen(path) != length)
        path[0] = 0;
    char stamp[32];
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now.tv_sec, &parts));
    struct buffer line = {answer, 0, sizeof answer - 1};
    puts_to(&line, "{\"level\": \"ERROR\", \"ts\": ");
    put_json(&line, stamp, strlen(stamp));
    puts_to(&line, ", \"msg\": ");
    put_json(&line, failure->message.at, failure->message.length);
    puts_to(&line, ", \"code\": ");
    put_number(&line, (unsigned)failure->code);
    static const char *const names[] = {"CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_ARGS"};
    for (size_t index = 0; index < 4; index++) {
        const char *value = getenv(names[index]);
        puts_to(&line, ", ");
        put_json(&line, names[index], strlen(names[index]));
        puts_to(&line, ": ");
        put_json(&line, value ? value : "", value ? strlen(value) : 0);
    }
    puts_to(&line, "}\n");
    struct stat status;
    int log = open_log(path);
    if (log < 0) return;
    if (!fstat(log, &status) && S_ISREG(status.st_mode) && status.st_size < mebibytes << 20
        && write(log, line.at, line.length) < 0)
        errno = 0; /* ignored: the caller gets the failure of the call */
    close(log);
}

/* Append the failure to the log if necessary, then write the CNI error object to `answer`. */
static struct text error_object(const struct failure *failure, struct text netconf) {
    struct text document = document_in(netconf);
    if (failure->needs_log) append_to_log(failure, options_in(document));
    struct text version = member(document, "cniVersion");
    bool is_text = version.length > 2 && version.at[0] == '"';
    if (is_text) version = (struct text){version.at + 1, version.length - 2};
    if (!is_text || !is_version(version)) version = (struct text){LATEST_VERSION, sizeof LATEST_VERSION - 1};
    struct buffer to = {answer, 0, sizeof answer};
    puts_to(&to, "{\n    \"cniVersion\": ");
    put_json(&to, version.at, version.length);
    puts_to(&to, ",\n    \"code\": ");
    put_number(&to, (unsigned)failure->code);
    puts_to(&to, ",\n    \"msg\": ");
    put_json(&to, failure->message.at, failure->message.length);
    puts_to(&to, ",\n    \"details\": ");
    put_json(&to, failure->details, strlen(failure->details));
    puts_to(&to, "\n}\n");
    return (struct text){to.at, to.length};
}

/* -------------------------------------------------------------------------------- the verbs */

/* Write the version result to `answer`, with the version of the caller if it is found without parsing.
 * Standard input is read only once, because the caller may keep it open and send nothing. */
static struct text version_result(void) {
    struct text version = NO_TEXT;
    long long deadline_ms = now_ms() + STDIN_OF_VERSION_DEADLINE_S * 1000LL;
    if (!isatty(0) && wait_ready(0, POLLIN, deadline_ms)) {
        ssize_t got = read(0, request, READ_BYTES_MAX);
        if (got > 0) version = string_after((struct text){request, (size_t)got}, "\"cniVersion\"");
    }
    if (!is_version(version)) version = (struct text){LATEST_VERSION, sizeof LATEST_VERSION - 1};
    struct buffer to = {answer, 0, sizeof answer};
    puts_to(&to, "{\"cniVersion\":\"");
    put(&to, version.at, version.length);
    puts_to(&to, "\",\"supportedVersions\":[");
    puts_to(&to, plugin->versions);
    puts_to(&to, "]}\n");
    return (struct text){to.at, to.length};
}

/* If a person runs the program on a terminal, print the usage to standard error and return true. */
static bool show_usage(char **environment) {
    bool is_call = false;
    for (char **variable = environment; *variable; variable++) is_call |= !strncmp(*variable, "CNI_", 4);
    if (is_call || !isatty(0)) return false;
    dprintf(2, "%s is a CNI plugin (%s): a container runtime runs it, with CNI_COMMAND set.\n"
               "CNI protocol versions supported: ", plugin->name, plugin->role);
    for (const char *at = plugin->versions; *at; at++)
        if (*at != '"') dprintf(2, *at == ',' ? ", " : "%c", *at);
    dprintf(2, "\n");
    return true;
}

/* Send the call to the agent. Return the exit status with `output` set, or -1 with `failure` set. */
static int call_agent(const char *verb, char **environment, struct text *netconf, struct text *output,
                 struct failure *failure) {
    static char input[REQUEST_BYTES_MAX + READ_BYTES_MAX];
    char path[sizeof ((struct sockaddr_un *)0)->sun_path];
    ssize_t got = read_netconf(input, failure);
    if (got < 0) return -1;
    *netconf = (struct text){input, (size_t)got};
    if (!framed_socket_path(*netconf, path, sizeof path, failure)) return -1;
    size_t length = framed_request(environment, input, (size_t)got, failure);
    if (!length) return -1;
    got = exchange(verb, path, length, failure);
    if (got < 0) return -1;
    *output = (struct text){answer + 5, (size_t)got - 5};
    return (unsigned char)answer[0];
}

static int run_call(const char *verb, char **environment, struct text *output) {
    static const char *const verbs[] = {"ADD", "DEL", "CHECK", "GC", "STATUS"};
    struct text netconf = {"", 0};
    struct failure failure;
    bool is_known = false;
    for (size_t index = 0; index < 5; index++) is_known |= !strcmp(verb, verbs[index]);
    if (!strcmp(verb, "VERSION")) {
        *output = version_result();
        return 0;
    }
    if (is_known && plugin->only_add && strcmp(verb, "ADD")) return 0;
    if (is_known) {
        int status = call_agent(verb, environment, &netconf, output, &failure);
        if (status >= 0) return status;
    } else {
        if (show_usage(environment)) return 0;
        fail(&failure, INVALID_ENVIRONMENT,
             *verb ? "unknown CNI_COMMAND: " : "required env variable CNI_COMMAND missing", verb,
             "CNI_COMMAND is one of " KNOWN_VERBS);
    }
    *output = error_object(&failure, netconf);
    if (!failure.not_received || !plugin->del_needs_no_agent || strcmp(verb, "DEL")) return 1;
    *output = NO_TEXT; /* the agent cleans up after this Pod when it starts */
    return 0;
}

int main(int count, char **arguments, char **environment) {
    const char *verb = getenv("CNI_COMMAND"), *name = count ? strrchr(arguments[0], '/') : NULL;
    struct text output = NO_TEXT;
    name = name ? name + 1 : count ? arguments[0] : "";
    for (size_t index = 0; index < sizeof plugins / sizeof *plugins; index++)
        if (!strcmp(name, plugins[index].name)) plugin = &plugins[index];
    signal(SIGPIPE, SIG_IGN);
    int status = run_call(verb ? verb : "", environment, &output);
    _exit(write_output(output.at, output.length) ? status : 1);
}
