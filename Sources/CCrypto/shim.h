// OpenSSL's libcrypto, as Swift sees it: only the EVP interface of the two block ciphers.
#ifndef COFFER_CCRYPTO_SHIM_H
#define COFFER_CCRYPTO_SHIM_H

#include <openssl/crypto.h>
#include <openssl/evp.h>

#if OPENSSL_VERSION_NUMBER < 0x30000000L
#error "Coffer needs OpenSSL 3.0 or newer"
#endif

// EVP_CTRL_AEAD_* are macros over casts, which Swift does not import.
static inline int coffer_evp_set_tag(EVP_CIPHER_CTX *context, const void *tag) {
    return EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, 16, (void *)tag);
}

static inline int coffer_evp_get_tag(EVP_CIPHER_CTX *context, void *tag) {
    return EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, tag);
}

#endif
