"""Forms as clients send them, for tests that speak HTTP without a client's help."""

import secrets


def multipart(*fields: tuple[str, str | bytes]) -> tuple[bytes, dict[str, str]]:
    """A body and its header. A field of bytes is a file."""
    mark, body = secrets.token_hex(16), b""
    for name, value in fields:
        file = '; filename="a.jpg"' if isinstance(value, bytes) else ""
        body += f'--{mark}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
        body += (value if isinstance(value, bytes) else value.encode()) + b"\r\n"
    return body + f"--{mark}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={mark}"}
