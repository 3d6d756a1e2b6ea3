"""What a part of the machine has used so far: processor time, bytes of sockets, WAL. Measured is a difference of two looks."""

import os
import pathlib
import socket
import struct
import time

TICKS = os.sysconf("SC_CLK_TCK")


def process_s(pid):
    """Processor time of a process, its ended threads included, in nanoseconds (clock_getcpuclockid(3)); OSError: it ended."""
    return time.clock_gettime((~pid << 3) | 2)


def stat(pid):
    """/proc/PID/stat from the third field on."""
    return pathlib.Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()


def children(pid):
    found = []
    for task in os.listdir("/proc/%d/task" % pid):
        found += map(int, pathlib.Path("/proc/%d/task/%s/children" % (pid, task)).read_text().split())
    return found


def reaped_s(pid):
    """Of children that have ended; in ticks of 10 ms."""
    return sum(map(int, stat(pid)[13:15])) / TICKS


def tree_s(pid):
    """Of a process and its children, also of those that have ended: of PostgreSQL, for each session is a process."""
    while True:
        reaped = reaped_s(pid)
        try:
            total = process_s(pid) + sum(process_s(child) for child in children(pid))
        except OSError:
            continue  # one ended just now: it is counted once only if nothing moves
        if reaped_s(pid) == reaped:
            return total + reaped


def machine_s():
    """Of all processors since the start: at work, idle, and stolen by other machines on the same hardware."""
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, pathlib.Path("/proc/stat").read_text().split()[1:9])
    return {"busy": (user + nice + system + irq + softirq) / TICKS, "idle": (idle + iowait) / TICKS, "stolen": steal / TICKS}


def memory_kib(pid, what="VmRSS"):
    """VmRSS: resident; VmHWM: the most that ever was."""
    for line in pathlib.Path("/proc/%d/status" % pid).read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1])
    raise OSError("process %d ended" % pid)


def socket_inodes(pid):
    inodes = set()
    for name in os.listdir("/proc/%d/fd" % pid):
        try:
            target = os.readlink("/proc/%d/fd/%s" % (pid, name))
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(int(target[8:-1]))
    return inodes


def socket_bytes(pid):
    """Bytes that a process has sent and received over the TCP connections it has now, by the other side's port: the kernel's
    own count (sock_diag(7), struct tcp_info). Reads and writes of /proc/PID/io leave sockets out."""
    inodes, found = socket_inodes(pid), {}
    request = struct.pack("=BBBBI48x", socket.AF_INET, socket.IPPROTO_TCP, 1 << 1, 0, 0xFFFFFFFF)  # with INET_DIAG_INFO
    header = struct.pack("=IHHII", 16 + len(request), 20, 0x301, 1, 0)  # SOCK_DIAG_BY_FAMILY; a request for all
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as netlink:  # NETLINK_SOCK_DIAG
        netlink.sendto(header + request, (0, 0))
        while True:
            data = netlink.recv(1 << 20)
            while data:
                size, kind = struct.unpack_from("=IH", data)
                if kind != 20:
                    return found
                port, = struct.unpack_from(">H", data, 16 + 6)
                inode, = struct.unpack_from("=I", data, 16 + 68)
                info = attribute(data[16 + 72:size], 2)
                if inode in inodes and len(info) >= 136:
                    acknowledged, received = struct.unpack_from("=QQ", info, 120)
                    sent_before, received_before = found.get(port, (0, 0))
                    found[port] = sent_before + acknowledged, received_before + received
                data = data[(size + 3) & ~3:]


def attribute(data, wanted):
    while len(data) >= 4:
        size, kind = struct.unpack_from("=HH", data)
        if kind == wanted:
            return data[4:size]
        data = data[max(4, (size + 3) & ~3):]
    return b""
