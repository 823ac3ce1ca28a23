/* octet plot: the learning curves of several runs in one figure. */
#include "commands.h"

int oct_cli_plot(const struct oct_settings *settings)
{
    enum oct_status status;

    if (settings->folder_count == 0)
        return oct_usage_error(OCT_CMD_PLOT, "no run folder; name those of octet train");
    status = oct_plot_curves(settings->folders, settings->folder_count, settings->figure);
    if (status != OCT_OK)
        return oct_library_error(OCT_CMD_PLOT, status);
    fprintf(stderr, "Saved %s\n", settings->figure);
    return OCT_EXIT_OK;
}
