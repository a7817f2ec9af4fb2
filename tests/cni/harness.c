/* The test harness of cni/plugin.c. Compiled as a library, it exports `socket_path` to tests; compiled
 * with FUZZ, it is a program that calls functions of the plugin with random inputs. */
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
/* Each input is the content of a sample file, changed at random: bits are flipped, bytes replaced,
 * removed or repeated. */
#define SAMPLE_BYTES_MAX 4096
#define SAMPLES_MAX 64

static uint64_t random_state;

static uint64_t random_below(uint64_t below) { /* xorshift64* */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 2685821657736338717u % below;
}

/* Change the bytes at `at`; return the new length. */
static size_t mutate(char *at, size_t length) {
    static const char tokens[] = "{}[]\",:0\\u\xff\xed\xa0";
    for (uint64_t times = random_below(6); times--;) {
        size_t index = length ? random_below(length) : 0;
        switch (random_below(5)) {
        case 0: if (length) at[index] ^= (char)(1 << random_below(8)); break;
        case 1: if (length) at[index] = tokens[random_below(sizeof tokens - 1)]; break;
        case 2:
            if (length) {
                length--;
                memmove(at + index, at + index + 1, length - index);
            }
            break;
        case 3: length = index; break;
        default: {
            size_t piece = length - index;
            if (piece > SAMPLE_BYTES_MAX - length) piece = SAMPLE_BYTES_MAX - length;
            memmove(at + length, at + index, piece);
            length += piece;
        }
        }
    }
    return length;
}

/* Call functions of the plugin with one input. Each input gets into an error object; abort if that
 * object is not JSON. */
static void try_input(char *netconf, size_t length) {
    struct text text = {netconf, length};
    char path[sizeof ((struct sockaddr_un *)0)->sun_path];
    struct failure failure;
    plugin = &plugins[random_below(3)];
    if (framed_socket_path(text, path, sizeof path, &failure)) {
        /* No failure to report: use one with the decoded path, as if the agent did not answer. */
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
    static char samples[SAMPLES_MAX][SAMPLE_BYTES_MAX], input[SAMPLE_BYTES_MAX + 1];
    size_t lengths[SAMPLES_MAX];
    if (count < 4 || count > 3 + SAMPLES_MAX) {
        fprintf(stderr, "usage: fuzz RANDOM_SEED INPUT_COUNT SAMPLE_FILE... (at most %d files)\n", SAMPLES_MAX);
        return 2;
    }
    random_state = strtoull(arguments[1], NULL, 10) | 1; /* xorshift64* needs a state that is not 0 */
    unsigned long long input_count = strtoull(arguments[2], NULL, 10);
    size_t sample_count = (size_t)count - 3;
    for (size_t index = 0; index < sample_count; index++) {
        FILE *file = fopen(arguments[3 + index], "rb");
        if (!file) {
            perror(arguments[3 + index]);
            return 2;
        }
        lengths[index] = fread(samples[index], 1, SAMPLE_BYTES_MAX, file);
        fclose(file);
    }
    for (unsigned long long tried = 0; tried < input_count; tried++) {
        size_t index = random_below(sample_count);
        memcpy(input, samples[index], lengths[index]);
        try_input(input, mutate(input, lengths[index]));
    }
    printf("tried %llu inputs\n", input_count);
    return 0;
}
#endif
