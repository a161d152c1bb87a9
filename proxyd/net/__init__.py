"""The data path's transports: genuine Twisted ones on an epoll set of their own."""
