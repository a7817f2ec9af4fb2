/* The program's own functions for tests: as a library, or with FUZZ as a program that tries them. */
#define main plugin_main
#include "../../cni/plugin.c"
#undef main

/* 0, or the code of the failure, whose message is then in `said`. */
int socket_path(const char *netconf, size_t length, char *path, char *said, size_t room) {
    char found[sizeof ((struct sockaddr_un *)0)->sun_path];
    struct failure failure;
    if (framed_socket_path((struct text){netconf, length}, found, sizeof found, &failure)) {
        strcpy(path, found);
        return 0;
    }
    snprintf(said, room, "%.*s", (int)failure.message.length, failure.message.at);
    return failure.code;
}

#ifdef FUZZ
/* Seeds from files, changed at random: bytes flipped, removed, doubled, joined from two seeds. */
#define SEED_BYTES_MAX 4096

static uint64_t state;

static uint64_t drawn(uint64_t below) { /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 2685821657736338717u % below;
}

static size_t changed(char *at, size_t length) {
    static const char tokens[] = "{}[]\",:0\\u\xff\xed\xa0";
    for (uint64_t times = drawn(6); times--;) {
        size_t place = length ? drawn(length) : 0;
        switch (drawn(5)) {
        case 0: if (length) at[place] ^= (char)(1 << drawn(8)); break;
        case 1: if (length) at[place] = tokens[drawn(sizeof tokens - 1)]; break;
        case 2: memmove(at + place, at + place + (length > 0), length - place - (length > 0));
                length -= length > 0; break;
        case 3: length = place; break;
        default: {
            size_t piece = length - place;
            if (piece > SEED_BYTES_MAX - length) piece = SEED_BYTES_MAX - length;
            memmove(at + length, at + place, piece);
            length += piece;
        }
        }
    }
    return length;
}

static void tried(char *netconf, size_t length) {
    struct text text = {netconf, length};
    char path[sizeof ((struct sockaddr_un *)0)->sun_path];
    struct failure failure;
    plugin = &plugins[drawn(3)];
    if (framed_socket_path(text, path, sizeof path, &failure)) {
        fail(&failure, TRY_AGAIN_LATER, path, "", "");
        failure.needs_log = true;
    }
    put(&failure.message, netconf, length);
    struct text output = error_object(&failure, text);
    if (!document_in(output).at) abort(); /* whatever came in, what goes out is JSON */
    char *environment[] = {netconf, NULL};
    netconf[length] = 0;
    framed_request(environment, netconf, length, &failure);
}

int main(int count, char **arguments) {
    static char seeds[64][SEED_BYTES_MAX + 1], work[2 * SEED_BYTES_MAX + 2];
    size_t lengths[64];
    int known = 0;
    state = strtoull(arguments[1], NULL, 10) | 1;
    for (int index = 3; index < count && known < 64; index++) {
        FILE *file = fopen(arguments[index], "rb");
        if (!file) return 2;
        lengths[known] = fread(seeds[known], 1, SEED_BYTES_MAX, file);
        known++;
        fclose(file);
    }
    for (unsigned long long left = strtoull(arguments[2], NULL, 10); left--;) {
        int seed = (int)drawn((uint64_t)known);
        memcpy(work, seeds[seed], lengths[seed]);
        tried(work, changed(work, lengths[seed]));
    }
    printf("tried %s inputs\n", arguments[2]);
    return 0;
}
#endif
