// This table runs on any processor that the compiler targets.
#define MF_TABLE table_portable
#define MF_NAME "portable"
#include "kernels_cpu_impl.h"
