"""A server's script, run by one thread at a time, and not any more once the server's end has begun."""

import os
import subprocess
import threading


class Ended(Exception):
    """The ground is being taken away: nothing may be started on it again."""


class Orderly:
    """Added to a harness.Script: verbs run one at a time, whatever thread asks, and none any more once the server's end has
    begun; a fault that is being healed at that moment would else start it again, for good."""

    def __init__(self, folder, **settings):
        super().__init__(folder)
        self.settings, self.lock, self.ended = settings, threading.Lock(), False

    def run(self, verb, *args):
        with self.lock:
            if self.ended:
                raise Ended("%s %s" % (self.script, verb))
            self.call(verb, *args)

    def call(self, verb, *args):
        done = subprocess.run(
            ["sh", self.script, verb, str(self.folder), *args], env={**os.environ, **self.settings}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, "%s %s: %s" % (self.script, verb, done.stdout)
