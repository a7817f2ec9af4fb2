/* Functions of the program for tests: as a library, or with FUZZ as a fuzzing program. */
#define main plugin_main
#include "../../cni/plugin.c"
#undef main

/* Write the socket path of a netconf to `path` and return 0; after a failure, return its code and
 * write its message to `text`. */
int socket_path(const char *netconf, size_t length, char *path, char *text, size_t capacity) {
    char result[sizeof ((struct sockaddr_un *)0)->sun_path];
    struct failure failure;
    if (framed_socket_path((struct text){netconf, length}, result, sizeof result, &failure)) {
        strcpy(path, result);
        return 0;
    }
    snprintf(text, capacity, "%.*s", (int)failure.message.length, failure.message.at);
    return failure.code;
}

#ifdef FUZZ
/* Inputs are seeds from files, changed at random: bits are flipped, bytes replaced, removed or
 * repeated. */
#define SEED_BYTES_MAX 4096

static uint64_t state;

static uint64_t random_below(uint64_t below) { /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 2685821657736338717u % below;
}

/* Change the bytes at `at`; return the new length. */
static size_t mutate(char *at, size_t length) {
    static const char tokens[] = "{}[]\",:0\\u\xff\xed\xa0";
    for (uint64_t times = random_below(6); times--;) {
        size_t index = length ? random_below(length) : 0;
        switch (random_below(5)) {
        case 0: if (length) at[index] ^= (char)(1 << random_below(8)); break;
        case 1: if (length) at[index] = tokens[random_below(sizeof tokens - 1)]; break;
        case 2: memmove(at + index, at + index + (length > 0), length - index - (length > 0));
                length -= length > 0; break;
        case 3: length = index; break;
        default: {
            size_t piece = length - index;
            if (piece > SEED_BYTES_MAX - length) piece = SEED_BYTES_MAX - length;
            memmove(at + length, at + index, piece);
            length += piece;
        }
        }
    }
    return length;
}

/* Call the functions of the program with one input; abort if an error object is not JSON. */
static void try_input(char *netconf, size_t length) {
    struct text text = {netconf, length};
    char path[sizeof ((struct sockaddr_un *)0)->sun_path];
    struct failure failure;
    plugin = &plugins[random_below(3)];
    if (framed_socket_path(text, path, sizeof path, &failure)) {
        fail(&failure, TRY_AGAIN_LATER, path, "", "");
        failure.needs_log = true;
    }
    put(&failure.message, netconf, length);
    struct text output = error_object(&failure, text);
    if (!document_in(output).at) abort();
    char *environment[] = {netconf, NULL};
    netconf[length] = 0;
    framed_request(environment, netconf, length, &failure);
}

int main(int count, char **arguments) {
    static char seeds[64][SEED_BYTES_MAX + 1], work[2 * SEED_BYTES_MAX + 2];
    size_t lengths[64];
    int seed_count = 0;
    state = strtoull(arguments[1], NULL, 10) | 1;
    for (int index = 3; index < count && seed_count < 64; index++) {
        FILE *file = fopen(arguments[index], "rb");
        if (!file) return 2;
        lengths[seed_count] = fread(seeds[seed_count], 1, SEED_BYTES_MAX, file);
        seed_count++;
        fclose(file);
    }
    for (unsigned long long inputs = strtoull(arguments[2], NULL, 10); inputs--;) {
        int seed = (int)random_below((uint64_t)seed_count);
        memcpy(work, seeds[seed], lengths[seed]);
        try_input(work, mutate(work, lengths[seed]));
    }
    printf("tried %s inputs\n", arguments[2]);
    return 0;
}
#endif
