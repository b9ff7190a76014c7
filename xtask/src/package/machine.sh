#!/bin/sh
# A machine of its own: this host's files with a layer in memory over them, namespaces of every kind, systemd as its first
# process. Nothing of it is left when it ends, which it does when stdin ends. Prints the process id of that systemd.
#
#   sh machine.sh NAME            (inside a mount namespace that nobody else sees)
#   sh machine.sh inside FOLDER   (by the line above, inside all other namespaces)
set -eu

if [ "$1" = inside ]; then
    root=$2
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 none "$root/sys/fs/cgroup"
    for folder in run tmp dev; do mount -t tmpfs "$folder" "$root/$folder"; done
    for device in null zero full random urandom tty; do
        : >"$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    mkdir "$root/dev/shm" "$root/dev/pts"
    mount -t tmpfs shm "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    # Nothing of the host's own services: a target that wants nothing but what units need to be logged and started.
    mkdir -p "$root/run/systemd/system"
    printf '[Unit]\nDescription=A machine for a test\nDefaultDependencies=no\nRequires=systemd-journald.socket\n' \
        >"$root/run/systemd/system/machine.target"
    hostname machine
    ip link set lo up
    cd "$root"
    pivot_root . mnt
    cd /
    umount -l /mnt
    for systemd in /usr/lib/systemd/systemd /lib/systemd/systemd; do
        if [ -x $systemd ]; then
            container=pinwire exec $systemd --unit=machine.target --show-status=false </dev/null >/dev/null 2>&1
        fi
    done
    echo 'systemd is not installed' >&2
    exit 1
fi

folder=$(mktemp -d)
mount -t tmpfs -o size=1g machine "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root" "$folder/cgroup"
mount -t overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" machine "$folder/root"
# systemd gets a group of its own below this host's, and takes it for the root of all.
mount -t cgroup2 none "$folder/cgroup"
group=$folder/cgroup/$1
mkdir "$group"

end() {
    kill -KILL "$child" 2>/dev/null || true
    wait "$child" 2>/dev/null || true
    # What ran there ends with its first process, yet a group lets go of them a moment later.
    tries=0
    while ! find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && [ $tries -lt 50 ]; do
        tries=$((tries + 1))
        sleep 0.1
    done
    umount -l "$folder"
    rmdir "$folder"
}

sh -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' machine "$group" \
    unshare --cgroup --ipc --mount --net --pid --uts --fork --kill-child sh "$0" inside "$folder/root" <&- &
child=$!
trap end EXIT
children=/proc/$child/task/$child/children
until first=$(cat "$children" 2>/dev/null) && [ -n "$first" ]; do
    kill -0 "$child"
    sleep 0.02
done
echo $first
cat >/dev/null
