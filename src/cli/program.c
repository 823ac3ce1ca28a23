/* The entry of the program; tests enter at octet_main. */
#include "commands.h"

int main(int argc, char **argv)
{
    return octet_main(argc, argv);
}
