/* For daemons that insist on a kernel with ESP, so that their IKE can be spoken to without one:
 *
 *     cc -shared -fPIC -o no_esp.so no_esp.c -ldl; LD_PRELOAD=no_esp.so daemon
 *
 * A PF_KEY socket (RFC 2367) is one that answers itself: all is done, and any SPI is free.
 * Over netlink, SAs that are to be installed are taken for no message at all, which the kernel confirms.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/pfkeyv2.h>
#include <linux/xfrm.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int option(int fd, int name)
{
	int saved = errno, value = 0;
	socklen_t size = sizeof(value);

	getsockopt(fd, SOL_SOCKET, name, &value, &size);
	errno = saved;
	return value;
}

int socket(int domain, int type, int protocol)
{
	struct sockaddr_un self = { .sun_family = AF_UNIX };
	socklen_t size = sizeof(self);
	int fd;

	if (domain != AF_KEY)
		return NEXT(socket)(domain, type, protocol);
	/* bound to an address of the kernel's choice, and connected to itself */
	fd = NEXT(socket)(AF_UNIX, SOCK_DGRAM, 0);
	if (fd >= 0 && (bind(fd, (struct sockaddr *)&self, sizeof(sa_family_t)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&self, &size) < 0 ||
	    connect(fd, (struct sockaddr *)&self, size) < 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* RFC 2367 section 3.1: the kernel's reply has the header of the request. */
ssize_t writev(int fd, const struct iovec *parts, int count)
{
	struct { struct sadb_msg header; struct sadb_sa sa; } reply = {
		.sa = { .sadb_sa_len = sizeof(reply.sa) / 8, .sadb_sa_exttype = SADB_EXT_SA },
	};
	size_t octets = sizeof(reply.header), asked = 0;
	int i;

	if (option(fd, SO_DOMAIN) != AF_UNIX || option(fd, SO_TYPE) != SOCK_DGRAM ||
	    count < 1 || parts[0].iov_len != sizeof(reply.header))
		return NEXT(writev)(fd, parts, count);
	for (i = 0; i < count; i++)
		asked += parts[i].iov_len;
	memcpy(&reply.header, parts[0].iov_base, sizeof(reply.header));
	if (reply.header.sadb_msg_type == SADB_GETSPI) {
		reply.sa.sadb_sa_spi = htonl(0x1000 + random());
		octets = sizeof(reply);
	}
	reply.header.sadb_msg_len = octets / 8;
	return send(fd, &reply, octets, 0) < 0 ? -1 : (ssize_t)asked;
}

/* A socket's own IPsec policy is refused where there is no ESP; there is nothing it could bypass. */
int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
	if ((level == IPPROTO_IP && name == IP_IPSEC_POLICY) ||
	    (level == IPPROTO_IPV6 && name == IPV6_IPSEC_POLICY))
		return 0;
	return NEXT(setsockopt)(fd, level, name, value, size);
}

/* Whether this is a message to the kernel's IPsec; `copy` is then what is to be sent in its place. */
static int pretended(int fd, const void *data, size_t octets, char *copy, size_t room)
{
	struct nlmsghdr *header = (struct nlmsghdr *)copy;

	if (octets < sizeof(*header) || octets > room ||
	    option(fd, SO_DOMAIN) != AF_NETLINK || option(fd, SO_PROTOCOL) != NETLINK_XFRM)
		return 0;
	memcpy(copy, data, octets);
	if (header->nlmsg_type == XFRM_MSG_NEWSA || header->nlmsg_type == XFRM_MSG_UPDSA) {
		header->nlmsg_type = NLMSG_NOOP;
		header->nlmsg_flags |= NLM_F_ACK;
	}
	return 1;
}

ssize_t write(int fd, const void *data, size_t octets)
{
	char copy[8192];
	int ours = pretended(fd, data, octets, copy, sizeof(copy));

	return NEXT(write)(fd, ours ? copy : data, octets);
}

ssize_t sendto(int fd, const void *data, size_t octets, int flags, const struct sockaddr *to, socklen_t size)
{
	char copy[8192];
	int ours = pretended(fd, data, octets, copy, sizeof(copy));

	return NEXT(sendto)(fd, ours ? copy : data, octets, flags, to, size);
}
