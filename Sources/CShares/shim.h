// libgfshare, as Swift sees it.
#ifndef COFFER_CSHARES_SHIM_H
#define COFFER_CSHARES_SHIM_H

#include <libgfshare.h>
#include <sodium.h>

static inline void coffer_fill_random(unsigned char *buffer, unsigned int count) { randombytes_buf(buffer, count); }

// The library has no source of randomness but the one that it is given, in a variable of its own.
static inline void coffer_give_gfshare_randomness(void) { gfshare_fill_rand = coffer_fill_random; }

#endif
