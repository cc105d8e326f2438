/* Publish persistent messages with a window of unconfirmed ones, as fast as librabbitmq can.
 *
 * publish HOST PORT USER PASSWORD VHOST EXCHANGE TOPIC COUNT WINDOW BYTES NAME=VALUE...
 *
 * Each NAME=VALUE becomes a header. Prints the seconds from the first message to the last confirm.
 * The same window, properties and headers as the relay's, mandatory as well.
 */
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void fail(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

static void check(amqp_rpc_reply_t reply, const char *what) {
  if (reply.reply_type != AMQP_RESPONSE_NORMAL) fail(what);
}

static double read_clock(clockid_t which) {
  struct timespec t;
  clock_gettime(which, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

/* What is confirmed: each message once, and how far all of them are. */
static char *is_confirmed;
static uint64_t confirmed, everything_below = 1;

static void confirm(uint64_t tag) {
  confirmed += !is_confirmed[tag];
  is_confirmed[tag] = 1;
}

/* Read one frame, waiting for it if asked to; return whether there was one. */
static int read_confirm(amqp_connection_state_t connection, int wait) {
  amqp_frame_t frame;
  struct timeval none = {0, 0}, patience = {30, 0};
  int status = amqp_simple_wait_frame_noblock(connection, &frame, wait ? &patience : &none);
  if (status == AMQP_STATUS_TIMEOUT && !wait) return 0;
  if (status != AMQP_STATUS_OK) fail(amqp_error_string2(status));
  if (frame.frame_type != AMQP_FRAME_METHOD) return 1;
  if (frame.payload.method.id != AMQP_BASIC_ACK_METHOD) fail("refused, returned or closed");
  amqp_basic_ack_t *ack = frame.payload.method.decoded;
  if (!ack->multiple) confirm(ack->delivery_tag);
  while (ack->multiple && everything_below <= ack->delivery_tag) confirm(everything_below++);
  amqp_maybe_release_buffers(connection);
  return 1;
}

int main(int argc, char **argv) {
  if (argc < 11) fail("too few arguments");
  uint64_t count = strtoull(argv[8], NULL, 10), window = strtoull(argv[9], NULL, 10);
  size_t bytes = strtoul(argv[10], NULL, 10);

  amqp_connection_state_t connection = amqp_new_connection();
  amqp_socket_t *socket = amqp_tcp_socket_new(connection);
  if (amqp_socket_open(socket, argv[1], atoi(argv[2]))) fail("cannot connect");
  check(amqp_login(connection, argv[5], 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, argv[3], argv[4]),
        "cannot log in");
  amqp_channel_open(connection, 1);
  check(amqp_get_rpc_reply(connection), "cannot open a channel");
  amqp_confirm_select(connection, 1);
  check(amqp_get_rpc_reply(connection), "cannot select confirms");

  int names = argc - 11;
  amqp_table_entry_t *entries = calloc(names + 1, sizeof *entries);
  for (int i = 0; i < names; i++) {
    char *value = strchr(argv[11 + i], '=');
    if (!value) fail("a header is NAME=VALUE");
    *value++ = 0;
    entries[i].key = amqp_cstring_bytes(argv[11 + i]);
    entries[i].value.kind = AMQP_FIELD_KIND_UTF8;
    entries[i].value.value.bytes = amqp_cstring_bytes(value);
  }
  char id[37], *data = malloc(bytes + 1);
  memset(data, 'x', bytes);
  amqp_bytes_t body = {bytes, data};
  amqp_basic_properties_t properties = {
      ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_HEADERS_FLAG,
      .content_type = amqp_cstring_bytes("application/json"),
      .delivery_mode = 2,
      .headers = {names, entries},
  };

  is_confirmed = calloc(count + 1, 1);
  uint64_t sent = 0;
  double started = read_clock(CLOCK_MONOTONIC), cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID);
  while (confirmed < count) {
    while (sent < count && sent - confirmed < window) {
      snprintf(id, sizeof id, "%036llu", (unsigned long long)sent++);
      properties.message_id = amqp_cstring_bytes(id);
      int status = amqp_basic_publish(connection, 1, amqp_cstring_bytes(argv[6]),
                                      amqp_cstring_bytes(argv[7]), 1, 0, &properties, body);
      if (status) fail(amqp_error_string2(status));
    }
    read_confirm(connection, 1);
    while (confirmed < sent && read_confirm(connection, 0)) {
    }
  }
  printf("{\"messages\": %llu, \"seconds\": %.6f, \"cpu\": %.6f}\n", (unsigned long long)count,
         read_clock(CLOCK_MONOTONIC) - started, read_clock(CLOCK_PROCESS_CPUTIME_ID) - cpu);
  return 0;
}
