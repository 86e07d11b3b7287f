"""What the kernel says of a server's connections."""

import socket
import time

from bgserver import sockets


def test_a_connection_is_answered_from_its_answer_until_the_next_request():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert sockets.answered(port) == []
        with socket.create_connection(("127.0.0.1", port)) as client, listening.accept()[0] as server:
            for _ in range(2):
                client.sendall(b"request")
                assert server.recv(7) == b"request"
                pause()
                assert sockets.answered(port) == [False]
                server.sendall(b"answer")
                assert client.recv(6) == b"answer"
                assert sockets.answered(port) == [True]
                pause()
                assert sockets.answered(port) == [True]
                assert not sockets.unsent({port})


def test_bytes_that_a_client_does_not_take_are_unsent():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), listening.accept()[0] as server:
            server.setblocking(False)
            while True:
                try:
                    server.send(bytes(1 << 16))
                except BlockingIOError:
                    break
            assert sockets.unsent({port})


def pause():
    """Longer than a tick of the kernel's clock."""
    time.sleep(0.05)
