"""Records what the first caller of a job's port says, on the interface that it comes in at.

python listen_in.py FIRST_PORT LAST_PORT BYTES: says ``listening``, then one object of JSON: whom it was
said to, and the first bytes of it in hexadecimal.
"""

from __future__ import annotations

import json
import socket
import struct
import sys

ETH_P_IP = 0x0800


def main(first, last, number):
    sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
    sniffer.bind(("eth0", ETH_P_IP))
    sniffer.settimeout(60)
    print("listening", flush=True)
    chosen, said = None, {}
    while sum(map(len, said.values())) < number:
        packet = sniffer.recv(1 << 16)
        header = (packet[0] & 15) * 4
        total = struct.unpack_from("!H", packet, 2)[0]
        if packet[9] != socket.IPPROTO_TCP:
            continue
        source, target, sequence = struct.unpack_from("!HHI", packet, header)
        flow = (packet[12:20], source, target)
        if not first <= target <= last or (chosen is not None and flow != chosen):
            continue
        payload = packet[header + (packet[header + 12] >> 4) * 4 : total]
        if payload:
            chosen = flow
            said[sequence] = payload
    text = b"".join(said[sequence] for sequence in sorted(said))
    address = socket.inet_ntoa(chosen[0][4:])
    print(json.dumps({"address": address, "port": chosen[2], "said": text[:number].hex()}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
