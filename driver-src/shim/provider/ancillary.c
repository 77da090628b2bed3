/*
 * ancillary.c: control information of datagrams.
 */
#include "ancillary.h"

#include "winsock.h"

typedef struct PACKET_INFO_4 {
    UCHAR Ip[4];
    ULONG Interface;
} PACKET_INFO_4;

typedef struct PACKET_INFO_6 {
    UCHAR Ip[16];
    ULONG Interface;
} PACKET_INFO_6;

#define ALIGNED(size) (((size) + 7u) & ~(SIZE_T)7u)

ULONG WskpAncillaryWrite(const HOST_PACKET *packet, ULONG64 out[8]) {
    PCMSGHDR header = (PCMSGHDR)out;
    SIZE_T payload;

    if (!packet->LocalKnown) {
        return 0;
    }
    RtlZeroMemory(out, 8 * sizeof(out[0]));
    if (packet->Local.Family == HOST_FAMILY_4) {
        PACKET_INFO_4 info = {.Interface = packet->InterfaceIndex};
        memcpy(info.Ip, packet->Local.Ip, sizeof(info.Ip));
        payload = sizeof(info);
        memcpy(header + 1, &info, sizeof(info));
        header->cmsg_level = (INT)WSKP_IPPROTO_IP;
        header->cmsg_type = (INT)WSKP_IP_PKTINFO;
    } else {
        PACKET_INFO_6 info = {.Interface = packet->InterfaceIndex};
        memcpy(info.Ip, packet->Local.Ip, sizeof(info.Ip));
        payload = sizeof(info);
        memcpy(header + 1, &info, sizeof(info));
        header->cmsg_level = (INT)WSKP_IPPROTO_IPV6;
        header->cmsg_type = (INT)WSKP_IPV6_PKTINFO;
    }
    header->cmsg_len = sizeof(*header) + payload;
    return (ULONG)ALIGNED(header->cmsg_len);
}

/* One object; FALSE when it is none that we know. */
static BOOLEAN ReadObject(HOST_FAMILY family, const CMSGHDR *header, HOST_SOURCE *source, BOOLEAN *found) {
    SIZE_T payload = header->cmsg_len - sizeof(*header);

    if (family == HOST_FAMILY_4 && header->cmsg_level == (INT)WSKP_IPPROTO_IP && header->cmsg_type == (INT)WSKP_IP_PKTINFO &&
        payload == sizeof(PACKET_INFO_4)) {
        PACKET_INFO_4 info;
        memcpy(&info, header + 1, sizeof(info));
        memcpy(source->Address.Ip, info.Ip, sizeof(info.Ip));
        source->InterfaceIndex = info.Interface;
    } else if (family == HOST_FAMILY_6 && header->cmsg_level == (INT)WSKP_IPPROTO_IPV6 &&
               header->cmsg_type == (INT)WSKP_IPV6_PKTINFO && payload == sizeof(PACKET_INFO_6)) {
        PACKET_INFO_6 info;
        memcpy(&info, header + 1, sizeof(info));
        memcpy(source->Address.Ip, info.Ip, sizeof(info.Ip));
        source->InterfaceIndex = info.Interface;
    } else {
        return FALSE;
    }
    source->Address.Family = family;
    *found = TRUE;
    return TRUE;
}

BOOLEAN WskpAncillaryRead(HOST_FAMILY family, const CMSGHDR *control, ULONG length, HOST_SOURCE *source, BOOLEAN *found) {
    const UCHAR *place = (const UCHAR *)control;
    SIZE_T left = length;

    *found = FALSE;
    RtlZeroMemory(source, sizeof(*source));
    if (((ULONG_PTR)place & 7) != 0) {
        return FALSE;
    }
    while (left > 0) {
        CMSGHDR header;
        if (left < sizeof(header)) {
            return FALSE;
        }
        memcpy(&header, place, sizeof(header));
        if (header.cmsg_len < sizeof(header) || header.cmsg_len > left || !ReadObject(family, (const CMSGHDR *)place, source, found)) {
            return FALSE;
        }
        place += ALIGNED(header.cmsg_len);
        left = ALIGNED(header.cmsg_len) >= left ? 0 : left - ALIGNED(header.cmsg_len);
    }
    return TRUE;
}
