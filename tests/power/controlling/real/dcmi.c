/* A module for ipmi_sim: the DCMI power commands of a BMC, which ipmi_sim itself does not know.
 *
 * The option is the path of a small file that tests write and this module reads before every command:
 *   watts <n>       what the power reading says
 *   force <n>       the limit that Get Power Limit shows, whatever was set
 *   cc <cmd> <code> the completion code of a command (all numbers decimal)
 * After every set or activation it writes "<limit> <active> <writes>" to the same path with ".limit" at its end.
 */
#include <stdio.h>
#include <string.h>
#include <OpenIPMI/mcserv.h>

#define DCMI 0xdc
#define LOWEST_W 500
#define HIGHEST_W 12000

static char path[400];
static unsigned int limit_w, active, writes, correction_ms, sampling_s;

static long look_up(const char *wanted, unsigned int cmd, long otherwise)
{
    char line[100], word[20];
    FILE *file = fopen(path, "r");
    long found = otherwise;
    if (!file)
        return otherwise;
    while (fgets(line, sizeof(line), file)) {
        long first, second;
        int count = sscanf(line, "%19s %ld %ld", word, &first, &second);
        if (count < 2 || strcmp(word, wanted))
            continue;
        if (count == 2)
            found = first;
        else if (first == (long) cmd)
            found = second;
    }
    fclose(file);
    return found;
}

static void tell(void)
{
    char beside[420], fresh[420];
    FILE *file;
    snprintf(beside, sizeof(beside), "%s.limit", path);
    snprintf(fresh, sizeof(fresh), "%s.fresh", path);
    file = fopen(fresh, "w");
    if (file) {
        fprintf(file, "%u %u %u\n", limit_w, active, ++writes);
        fclose(file);
        rename(fresh, beside); /* readers see the old line or the new one */
    }
}

static void put(unsigned char *at, unsigned long value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = value >> (8 * i);
}

static unsigned long get(const unsigned char *at, int bytes)
{
    unsigned long value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (unsigned long) at[i] << (8 * i);
    return value;
}

static void handle(lmc_data_t *mc, msg_t *msg, unsigned char *answer, unsigned int *length, void *data)
{
    long watts = look_up("watts", 0, 0), code = look_up("cc", msg->cmd, 0);
    (void) mc;
    (void) data;
    answer[0] = code;
    answer[1] = DCMI;
    *length = 2;
    if (code)
        return;
    if (msg->cmd == 2) { /* Get Power Reading */
        memset(answer + 2, 0, 17);
        for (int i = 2; i < 10; i += 2)
            put(answer + i, watts, 2);
        put(answer + 14, 1000, 4);
        answer[18] = 0x40;
        *length = 19;
    } else if (msg->cmd == 3) { /* Get Power Limit */
        answer[0] = active ? 0 : 0x80;
        memset(answer + 2, 0, 13);
        put(answer + 5, look_up("force", 0, limit_w), 2);
        put(answer + 7, correction_ms, 4);
        put(answer + 13, sampling_s, 2);
        *length = 15;
    } else if (msg->cmd == 4 && msg->len >= 15) { /* Set Power Limit */
        unsigned long wanted = get(msg->data + 5, 2);
        if (wanted < LOWEST_W || wanted > HIGHEST_W) {
            answer[0] = 0x84;
            return;
        }
        limit_w = wanted;
        correction_ms = get(msg->data + 7, 4);
        sampling_s = get(msg->data + 13, 2);
        tell();
    } else if (msg->cmd == 5 && msg->len >= 2) { /* Activate or deactivate */
        active = msg->data[1];
        tell();
    } else {
        answer[0] = 0xc1;
    }
}

int ipmi_sim_module_print_version(sys_data_t *sys, char *options)
{
    (void) sys;
    (void) options;
    printf("DCMI power\n");
    return 0;
}

int ipmi_sim_module_init(sys_data_t *sys, const char *options)
{
    (void) sys;
    snprintf(path, sizeof(path), "%s", options);
    ipmi_emu_register_group_extension_handler(DCMI, handle, NULL);
    return 0;
}
