//! Sockets of one thread: io_uring or epoll behind one narrow, event-driven interface.
