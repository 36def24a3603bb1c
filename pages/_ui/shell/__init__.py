"""The frame around each page: style, links, sign-in and permissions."""
