/* PPP of a kernel that has none, as far as pppd and a pty need it:
 *
 *     cc -shared -fPIC -o no_ppp.so no_ppp.c -ldl; LD_PRELOAD=no_ppp.so pppd
 *
 * /dev/ppp is a socket, whose other end a child of pppd's holds together with the pty and a TUN device named
 * pppN. What goes through the pty is framed as RFC 1662 says: IP between there and the device, all else
 * between there and pppd. Sent are the plain forms, which no negotiated option forbids: every control
 * character escaped, address and protocol never compressed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/ppp-ioctl.h>
#include <linux/ppp_defs.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ROOM 4096 /* for a frame; more than any MRU in use */

enum { TTY, TUN, PPPD, ENDS }; /* the child's descriptors */

static int ours = -1, theirs = -1, tty = -1, flags;

static unsigned short fcs(const unsigned char *data, size_t octets)
{
	unsigned short sum = PPP_INITFCS;
	int bit;

	while (octets--)
		for (sum ^= *data++, bit = 0; bit < 8; bit++)
			sum = sum & 1 ? sum >> 1 ^ 0x8408 : sum >> 1;
	return sum;
}

/* A frame's protocol field and what follows it. */
static void to_line(const unsigned char *data, size_t octets)
{
	unsigned char frame[ROOM + 4] = { PPP_ALLSTATIONS, PPP_UI }, line[2 * sizeof(frame) + 2];
	struct pollfd writable = { .fd = TTY, .events = POLLOUT };
	size_t size = 0, sent = 0, i;
	unsigned short sum;
	ssize_t now;

	memcpy(frame + 2, data, octets);
	octets += 2;
	sum = ~fcs(frame, octets);
	frame[octets++] = sum;
	frame[octets++] = sum >> 8;
	line[size++] = PPP_FLAG;
	for (i = 0; i < octets; i++) {
		if (frame[i] < 0x20 || frame[i] == PPP_FLAG || frame[i] == PPP_ESCAPE) {
			line[size++] = PPP_ESCAPE;
			frame[i] ^= PPP_TRANS;
		}
		line[size++] = frame[i];
	}
	line[size++] = PPP_FLAG;
	for (; sent < size; sent += now) {
		now = write(TTY, line + sent, size - sent);
		if (now < 0) {
			if (errno != EAGAIN)
				_exit(0);
			now = 0;
			poll(&writable, 1, -1);
		}
	}
}

static void from_frame(unsigned char *frame, size_t octets)
{
	unsigned char *data = frame;
	int protocol;

	if (octets < 4 || fcs(frame, octets) != PPP_GOODFCS)
		return;
	octets -= 2;
	if (data[0] == PPP_ALLSTATIONS && data[1] == PPP_UI)
		data += 2, octets -= 2;
	if (octets && data[0] & 1) /* compressed: one octet, which alone is odd */
		*--data = 0, octets++;
	if (octets < 2)
		return;
	protocol = data[0] << 8 | data[1];
	if (protocol == PPP_IP || protocol == PPP_IPV6)
		octets = write(TUN, data + 2, octets - 2);
	else
		send(PPPD, data, octets, MSG_NOSIGNAL);
}

static void from_line(const unsigned char *line, ssize_t octets)
{
	static unsigned char room[ROOM + 2], *frame = room + 2; /* two for a protocol field that grows */
	static size_t size;
	static int escaped;

	for (; octets > 0; line++, octets--) {
		if (*line == PPP_FLAG) {
			from_frame(frame, size);
			size = escaped = 0;
		} else if (*line == PPP_ESCAPE) {
			escaped = PPP_TRANS;
		} else {
			if (size < ROOM)
				frame[size++] = *line ^ escaped;
			escaped = 0;
		}
	}
}

/* The child's life, which ends with pppd's or the line's. */
static void relay(void)
{
	struct pollfd ends[ENDS] = { { TTY, POLLIN, 0 }, { TUN, POLLIN, 0 }, { PPPD, POLLIN, 0 } };
	unsigned char data[ROOM];
	ssize_t octets;

	for (;;) {
		poll(ends, ENDS, -1);
		if (ends[TTY].revents) {
			if ((octets = read(TTY, data, sizeof(data))) == 0 || (octets < 0 && errno != EAGAIN))
				return;
			from_line(data, octets);
		}
		if (ends[PPPD].revents) {
			if ((octets = recv(PPPD, data, sizeof(data), 0)) <= 0)
				return;
			to_line(data, octets);
		}
		if (ends[TUN].revents && (octets = read(TUN, data + 2, sizeof(data) - 2)) > 0) {
			data[0] = 0;
			data[1] = data[2] >> 4 == 6 ? PPP_IPV6 : PPP_IP;
			to_line(data, octets + 2);
		}
	}
}

static int new_unit(int *unit)
{
	struct ifreq device = { .ifr_name = "ppp%d", .ifr_flags = IFF_TUN | IFF_NO_PI };
	int tun = NEXT(open)("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (tun < 0 || NEXT(ioctl)(tun, TUNSETIFF, &device) < 0)
		return -1;
	*unit = atoi(device.ifr_name + strlen("ppp"));
	if (fork() == 0) {
		setsid(); /* pppd's signals to its group are not for us */
		tty = fcntl(tty, F_DUPFD, ENDS);
		dup2(fcntl(tun, F_DUPFD, ENDS), TUN);
		dup2(fcntl(theirs, F_DUPFD, ENDS), PPPD);
		dup2(tty, TTY);
		close_range(ENDS, ~0U, 0);
		relay();
		_exit(0);
	}
	close(tun);
	close(theirs);
	return 0;
}

int open(const char *path, int how, ...)
{
	int pair[2];
	va_list more;
	mode_t mode;

	va_start(more, how);
	mode = va_arg(more, mode_t);
	va_end(more);
	if (strcmp(path, "/dev/ppp"))
		return NEXT(open)(path, how, mode);
	if (ours < 0) {
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
			return -1;
		ours = pair[0];
		theirs = pair[1];
	}
	return fcntl(ours, F_DUPFD_CLOEXEC, 0);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list more;
	void *value;

	va_start(more, request);
	value = va_arg(more, void *);
	va_end(more);
	if (request == TIOCSETD && *(int *)value == N_PPP) {
		tty = fd;
		return 0;
	}
	if (_IOC_TYPE(request) != 't')
		return NEXT(ioctl)(fd, request, value);
	switch (request) {
	case PPPIOCNEWUNIT:
		return new_unit(value);
	case PPPIOCGFLAGS:
		*(int *)value = flags;
		return 0;
	case PPPIOCSFLAGS:
		flags = *(int *)value;
		return 0;
	case PPPIOCGCHAN:
		*(int *)value = 0;
		return 0;
	case PPPIOCSCOMPRESS: /* there is none */
		errno = EINVAL;
		return -1;
	}
	if (_IOC_DIR(request) & _IOC_READ)
		memset(value, 0, _IOC_SIZE(request));
	return 0;
}
