// libsodium, as Swift sees it. The sizes that the format relies on are pinned here.
#ifndef COFFER_CSODIUM_SHIM_H
#define COFFER_CSODIUM_SHIM_H

#include <sodium.h>

_Static_assert(crypto_kdf_KEYBYTES == 32, "vault keys are 32 bytes");
_Static_assert(crypto_kdf_CONTEXTBYTES == 8, "sub-key context is 8 bytes");
_Static_assert(crypto_generichash_BYTES_MIN == 16, "BLAKE2b-128 is available");
_Static_assert(crypto_generichash_BYTES_MAX == 64, "BLAKE2b-512 is available");
_Static_assert(crypto_stream_xchacha20_KEYBYTES == 32, "XChaCha20 key");
_Static_assert(crypto_stream_xchacha20_NONCEBYTES == 24, "XChaCha20 nonce");
_Static_assert(crypto_aead_xchacha20poly1305_ietf_NPUBBYTES == 24, "XChaCha20-Poly1305 nonce");
_Static_assert(crypto_aead_xchacha20poly1305_ietf_ABYTES == 16, "XChaCha20-Poly1305 tag");
_Static_assert(crypto_pwhash_argon2id_SALTBYTES == 16, "Argon2id salt");

#endif
