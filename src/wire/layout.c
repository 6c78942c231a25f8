/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where each field of the wire format stands, as docs/protocol.md has it: what does not compile
 * here would not be understood by others. Golden bytes are in test/unit/wire/test_golden.c.
 */
#include "wire.h"

#define AT(type, field, offset)                                                                    \
	_Static_assert(offsetof(struct type, field) == (offset), "wire format: " #type "." #field)
#define SIZE(type, size) _Static_assert(sizeof(struct type) == (size), "wire format: " #type)

AT(wire_preface, magic, 0);
AT(wire_preface, version_min, 8);
AT(wire_preface, version_max, 10);
AT(wire_preface, mode, 12);
AT(wire_preface, flags, 13);
AT(wire_preface, reactor, 14);
AT(wire_preface, incarnation, 16);
AT(wire_preface, session, 24);
SIZE(wire_preface, 32);

AT(wire_header, magic, 0);
AT(wire_header, kind, 4);
AT(wire_header, flags, 5);
AT(wire_header, count, 6);
AT(wire_header, body_size, 8);
AT(wire_header, payload_size, 12);
AT(wire_header, request, 16);
AT(wire_header, credit, 24);
AT(wire_header, reserved, 28);
AT(wire_header, mac, 32);
SIZE(wire_header, 48);

AT(wire_hello, tenant, 0);
AT(wire_hello, nonce, 64);
AT(wire_hello, secret_id, 96);
AT(wire_hello, transports, 104);
AT(wire_hello, lane, 108);
AT(wire_hello, reserved0, 110);
AT(wire_hello, reserved1, 112);
SIZE(wire_hello, 120);

AT(wire_challenge, version, 0);
AT(wire_challenge, reserved0, 2);
AT(wire_challenge, reserved1, 4);
AT(wire_challenge, nonce, 8);
AT(wire_challenge, server, 40);
AT(wire_challenge, incarnation, 56);
AT(wire_challenge, proof, 64);
SIZE(wire_challenge, 96);

AT(wire_proof, proof, 0);
SIZE(wire_proof, 32);

AT(wire_welcome, session, 0);
AT(wire_welcome, incarnation, 8);
AT(wire_welcome, server, 16);
AT(wire_welcome, block_max, 32);
AT(wire_welcome, credit, 36);
AT(wire_welcome, request_max, 40);
AT(wire_welcome, weight, 44);
AT(wire_welcome, capacity, 48);
AT(wire_welcome, reactor, 56);
AT(wire_welcome, reactor_count, 58);
AT(wire_welcome, lane_max, 60);
AT(wire_welcome, verify, 61);
AT(wire_welcome, rights, 62);
AT(wire_welcome, offer_count, 63);
AT(wire_welcome, stall_ms, 64);
AT(wire_welcome, reserved, 68);
SIZE(wire_welcome, 72);

AT(wire_shard, uuid, 0);
AT(wire_shard, index, 16);
AT(wire_shard, reactor, 18);
AT(wire_shard, weight, 20);
SIZE(wire_shard, 24);

AT(wire_offer, transport, 0);
AT(wire_offer, reactor, 4);
AT(wire_offer, address, 8);
SIZE(wire_offer, 128);

AT(wire_refuse, code, 0);
AT(wire_refuse, reserved, 4);
AT(wire_refuse, text, 8);
SIZE(wire_refuse, 128);

AT(wire_request, ns, 0);
AT(wire_request, domain, 16);
AT(wire_request, budget_ns, 32);
AT(wire_request, lease, 40);
AT(wire_request, flags, 48);
AT(wire_request, duration_ms, 52);
SIZE(wire_request, 56);

AT(wire_key, bytes, 0);
SIZE(wire_key, 32);

AT(wire_record, sequence, 0);
AT(wire_record, shard, 8);
AT(wire_record, reserved0, 10);
AT(wire_record, reserved1, 12);
SIZE(wire_record, 16);

AT(wire_seg, region, 0);
AT(wire_seg, size, 4);
AT(wire_seg, offset, 8);
SIZE(wire_seg, 16);

AT(wire_get, key, 0);
AT(wire_get, record, 32);
AT(wire_get, offset, 48);
AT(wire_get, size, 52);
AT(wire_get, seg_count, 56);
AT(wire_get, reserved0, 58);
AT(wire_get, reserved1, 60);
SIZE(wire_get, 64);

AT(wire_put, key, 0);
AT(wire_put, place, 32);
AT(wire_put, chain, 48);
AT(wire_put, depth, 56);
AT(wire_put, size, 60);
AT(wire_put, ttl_s, 64);
AT(wire_put, seg_count, 68);
AT(wire_put, flags, 70);
SIZE(wire_put, 72);

AT(wire_cancel, request, 0);
SIZE(wire_cancel, 8);

AT(wire_declare, region, 0);
AT(wire_declare, kind, 4);
AT(wire_declare, access, 6);
AT(wire_declare, size, 8);
AT(wire_declare, address, 16);
AT(wire_declare, rkey, 24);
AT(wire_declare, page_size, 28);
SIZE(wire_declare, 32);

AT(wire_undeclare, region, 0);
AT(wire_undeclare, reserved, 4);
SIZE(wire_undeclare, 8);

AT(wire_report, tokens_loaded, 0);
AT(wire_report, tokens_recomputed, 8);
AT(wire_report, load_ns, 16);
AT(wire_report, prefill_ns, 24);
SIZE(wire_report, 32);

AT(wire_result, item, 0);
AT(wire_result, status, 4);
AT(wire_result, size, 8);
AT(wire_result, block_size, 12);
AT(wire_result, record, 16);
AT(wire_result, crc, 32);
AT(wire_result, flags, 36);
SIZE(wire_result, 40);

AT(wire_bitmap, lease, 0);
AT(wire_bitmap, status, 8);
AT(wire_bitmap, leased, 12);
AT(wire_bitmap, duration_ms, 16);
AT(wire_bitmap, reserved, 20);
SIZE(wire_bitmap, 24);

AT(wire_text, status, 0);
AT(wire_text, size, 4);
SIZE(wire_text, 8);

AT(wire_grant, item, 0);
AT(wire_grant, size, 4);
AT(wire_grant, offset, 8);
SIZE(wire_grant, 16);

AT(wire_data, item, 0);
AT(wire_data, reserved, 4);
AT(wire_data, offset, 8);
SIZE(wire_data, 16);

AT(wire_notice, code, 0);
AT(wire_notice, reserved, 4);
AT(wire_notice, text, 8);
SIZE(wire_notice, 64);
