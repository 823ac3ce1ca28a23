/* octet info */
#include "commands.h"

static void print_line(void *user, const char *text)
{
    fprintf(user, "%s\n", text);
}

int oct_cli_info(const struct oct_settings *settings)
{
    enum oct_status status = oct_info(settings->scheme_asked, print_line, stdout);

    return status == OCT_OK ? OCT_EXIT_OK : oct_library_error(OCT_CMD_INFO, status);
}
