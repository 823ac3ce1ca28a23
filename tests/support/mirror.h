/* A backend for tests that were written for host memory: each op copies the buffers its arguments
 * name to another device, in their exact sizes, runs there and copies the outputs back. So the
 * tests of the CPU's ops run on any device, and a kernel that leaves a buffer leaves an allocation.
 */
#ifndef OCT_TEST_MIRROR_H
#define OCT_TEST_MIRROR_H

#include "backend.h"

#include <stdbool.h>

/* The device tests were asked to run on by OCT_TEST_DEVICE; NULL: the CPU. "mirror" is the CPU by
 * way of copies, which tries the mirror itself. */
const char *mirror_device(void);

/* Sets OCT_PLUGIN_PATH: plug-ins lie one folder above the test programs. */
void mirror_find_plugins(void);

/* Opens it (aborts if it cannot) and fills a table whose ctx is the mirror. */
void mirror_open(oct_backend *table);
/* The same around a device that is open; the mirror owns it then. */
void mirror_wrap(oct_backend *table, oct_backend *device);
void mirror_close(oct_backend *table);

#endif
