// Compiled with the flags that build.sh names for it.
#if defined(__x86_64__)
#define MF_TABLE table_avx2
#define MF_NAME "avx2"
#include "kernels_cpu_impl.h"
#endif
