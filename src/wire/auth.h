/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mutual authentication and frame MACs. HMAC-SHA-256 and AES-128-GMAC by OpenSSL.
 *
 *   transcript  = preface | hello body | challenge body up to its proof
 *   proof of r  = HMAC(K, "ctxkv " r " proof" | transcript), r = "server", "client"
 *   session key = HMAC(secret, "ctxkv session key" | transcript)     (NEW only)
 *   lane key d  = first 16 bytes of HMAC(session key, "ctxkv lane key" | lane (u16) | d (u8) |
 *                 client nonce | server nonce), d = 1 client to server, 2 server to client
 *   K           = the tenant's secret (NEW), the session key (JOIN)
 *   secret id   = first 8 bytes of HMAC(secret, "ctxkv secret id")
 *   TLS         = PSK HMAC(secret, "ctxkv tls psk"), identity TENANT ":" hex of the secret id
 *
 * The server proves itself first: secrets are 32 random bytes, not to be guessed from its proof. An
 * unknown tenant or secret id is answered with a proof under a random key, like any other.
 * MAC: GMAC over the header's first 32 bytes and the body, IV = 0 (u32) | frame sequence (u64 LE),
 * the sequence counting frames of that lane and direction from 0; it begins with the frame after
 * PROOF.
 *
 * Memory     auth_mac_create() and the HMACs of hello allocate through OpenSSL: session set-up
 * only. auth_mac_seal() and auth_mac_check() do not allocate. Threads    A mac belongs to its
 * lane's thread; the other functions have no state.
 */
#ifndef WIRE_AUTH_H
#define WIRE_AUTH_H

#include "wire.h"

#define AUTH_SECRET_SIZE      32
#define AUTH_TLS_IDENTITY_MAX (WIRE_TENANT_MAX + 1 + 16) /* with the NUL */

struct auth_secret {
	uint8_t bytes[AUTH_SECRET_SIZE];
};

struct auth_key {
	uint8_t bytes[32];
};

/* What hello has exchanged. */
struct auth_transcript {
	struct wire_preface preface;
	struct wire_hello hello;
	struct wire_challenge challenge; /* its proof is not part of what is signed */
};

enum auth_role { AUTH_SERVER = 1, AUTH_CLIENT = 2 };

/* The PSK of TLS, and the name it goes by. Parse: false when text is no such name. */
void auth_tls_key(const struct auth_secret *secret, uint8_t key_out[AUTH_SECRET_SIZE]);
void auth_tls_identity(const char *tenant, const struct auth_secret *secret,
		       char identity_out[AUTH_TLS_IDENTITY_MAX]);
bool auth_tls_identity_parse(const char *identity, char tenant_out[WIRE_TENANT_MAX],
			     uint8_t secret_id_out[8]);

void auth_secret_id(const struct auth_secret *secret, uint8_t id_out[8]);
/* key: the secret (NEW) or the session key (JOIN), 32 bytes either way. */
void auth_proof(const void *key, enum auth_role role, const struct auth_transcript *transcript,
		uint8_t proof_out[32]);
void auth_session_key(const struct auth_secret *secret, const struct auth_transcript *transcript,
		      struct auth_key *key_out);
bool auth_proof_equal(const uint8_t a[32], const uint8_t b[32]); /* constant time */

/* MAC state of one direction of one lane. */
struct auth_mac;

int auth_mac_create(const struct auth_key *session, const struct auth_transcript *transcript,
		    enum wire_direction direction, struct auth_mac **mac_out) MUST_USE;
void auth_mac_destroy(struct auth_mac **mac);
/* Fill header->mac for the next frame of the sequence. body may be NULL when body_size is 0. */
void auth_mac_seal(struct auth_mac *mac, struct wire_header *header, const void *body);
/* Whether header and body are the next frame of the sequence. Then the sequence moves on. */
bool auth_mac_check(struct auth_mac *mac, const struct wire_header *header, const void *body);

/* First 16 bytes of SHA-256 of "ctxkv domain " | name, and of "ctxkv namespace " | canonical text.
 */
void auth_domain_id(const char *name, uint8_t id_out[16]);
void auth_namespace_id(const char *text, uint8_t id_out[16]);

#endif
