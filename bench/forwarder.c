/* A cable of a given length: every packet, SYN and DNS included, arrives so much later.
 *
 *     forwarder MICROSECONDS NETNS
 *
 * Makes a TUN device "delayed" in the network namespace it runs in, and another one in NETNS (a
 * path below /run/netns), and carries each packet from one to the other, in order, so many
 * microseconds after it came. Says "ready" on standard output once both are there; they are gone
 * when the process is. What comes faster than the queue takes is left to the device, which drops.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { PACKETS = 16384, BYTES = 1600, AT_ONCE = 64 };

struct packet {
	int64_t due; /* nanoseconds of the monotonic clock */
	int size;
	char data[BYTES];
};

struct direction {
	int from, to;
	unsigned first, count;
	struct packet *queue;
};

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int device(void)
{
	struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		err(1, "/dev/net/tun");
	strcpy(request.ifr_name, "delayed");
	if (ioctl(fd, TUNSETIFF, &request))
		err(1, "the device cannot be made");
	return fd;
}

static void take(struct direction *way, int64_t delay)
{
	for (int i = 0; i < AT_ONCE && way->count < PACKETS; i++) {
		struct packet *packet = &way->queue[(way->first + way->count) % PACKETS];
		packet->size = read(way->from, packet->data, BYTES);
		if (packet->size <= 0)
			return;
		packet->due = now() + delay;
		way->count++;
	}
}

static void deliver(struct direction *way)
{
	while (way->count && way->queue[way->first].due <= now()) {
		struct packet *packet = &way->queue[way->first];
		if (write(way->to, packet->data, packet->size) < 0 && errno == EAGAIN)
			return;
		way->first = (way->first + 1) % PACKETS;
		way->count--;
	}
}

int main(int argc, char **argv)
{
	if (argc != 3)
		errx(2, "usage: forwarder MICROSECONDS NETNS");
	int64_t delay = atoll(argv[1]) * 1000;
	int near = device();
	int there = open(argv[2], O_RDONLY | O_CLOEXEC);
	if (there < 0 || setns(there, CLONE_NEWNET))
		err(1, "%s", argv[2]);
	int far = device();
	struct direction ways[2] = {{.from = near, .to = far}, {.from = far, .to = near}};
	for (int i = 0; i < 2; i++)
		if (!(ways[i].queue = malloc(PACKETS * sizeof(struct packet))))
			err(1, "queue");
	prctl(PR_SET_TIMERSLACK, 1); /* nanosecond: the default adds up to 50 microseconds */
	/* Before whatever is measured, so that the cable is no longer where the machine is busy. */
	if (sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 1}))
		warn("the delay may vary");
	puts("ready");
	fflush(stdout);

	for (;;) {
		struct pollfd fds[2];
		int64_t next = INT64_MAX;
		for (int i = 0; i < 2; i++) {
			deliver(&ways[i]);
			fds[i] = (struct pollfd){ways[i].from, POLLIN, 0};
			if (ways[i].count == PACKETS)
				fds[i].fd = -1; /* full: wait until some have gone */
			if (ways[i].count && ways[i].queue[ways[i].first].due < next)
				next = ways[i].queue[ways[i].first].due;
		}
		int64_t left = next == INT64_MAX ? 1000000000LL : next - now();
		if (left < 0)
			left = 0;
		struct timespec patience = {left / 1000000000LL, left % 1000000000LL};
		if (ppoll(fds, 2, &patience, NULL) < 0 && errno != EINTR)
			err(1, "poll");
		for (int i = 0; i < 2; i++)
			if (fds[i].revents & POLLIN)
				take(&ways[i], delay);
	}
}
