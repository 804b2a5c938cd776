// libfuse 3, the low-level interface, as Swift sees it.
#ifndef COFFER_CFUSE_SHIM_H
#define COFFER_CFUSE_SHIM_H

#define FUSE_USE_VERSION 314

#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(FUSE_ROOT_ID == 1, "the root's node id");
_Static_assert(sizeof(fuse_ino_t) == 8, "a node id carries a pointer");
_Static_assert(offsetof(struct fuse_file_info, fh) % 8 == 0, "fh is aligned");
_Static_assert(sizeof(struct fuse_in_header) == 40 && sizeof(struct fuse_write_in) == 40, "a write as the kernel sends it");
_Static_assert(FUSE_SET_ATTR_SIZE == (1 << 3), "setattr bits");

// struct fuse_file_info is made of bit fields; these name the ones Coffer sets.
static inline void coffer_fi_keep_cache(struct fuse_file_info *info) { info->keep_cache = 1; }
static inline void coffer_fi_direct_io(struct fuse_file_info *info) { info->direct_io = 1; }
static inline void coffer_fi_cache_readdir(struct fuse_file_info *info) { info->cache_readdir = 1; }

// fuse_reply_buf wants char pointers.
static inline int coffer_reply_bytes(fuse_req_t request, const void *bytes, size_t count) {
    return fuse_reply_buf(request, (const char *)bytes, count);
}

#endif
