/* A round of events, compiled: what is plainly to be read is read, and what was held back is sent.

   A connection is plain if its transport is of one of the `kinds`, is connected, and has no reason to read much at
   once. Everything else that can happen is left to methods of Python, which do the same as these functions where there
   is no compiler: `DataPathReactor` has them. Sockets never block, so nobody waits while the interpreter is held. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define ROOM (16 * 1024)

static PyObject *s_next_read, *s_read_size, *s_connected, *s_protocol, *s_data_received, *s_received, *s_held_back,
    *s_fileno, *s_sent, *s_flush;
static PyObject *no_bytes;

static int
is_one_of(PyObject *selectable, PyObject *kinds)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kinds); i++)
        if ((PyObject *)Py_TYPE(selectable) == PyTuple_GET_ITEM(kinds, i))
            return 1;
    return 0;
}

/* Put a number that the transport has as an attribute into `size`; -1 with an exception. */
static int
read_size(PyObject *transport, PyObject *name, long *size)
{
    PyObject *value = PyObject_GetAttr(transport, name);
    if (value == NULL)
        return -1;
    *size = PyLong_AsLong(value);
    Py_DECREF(value);
    return *size == -1 && PyErr_Occurred() ? -1 : 0;
}

/* Whether one read of ROOM is what the transport asks for; -1 with an exception. */
static int
reads_plainly(PyObject *transport)
{
    PyObject *connected = PyObject_GetAttr(transport, s_connected);
    if (connected == NULL)
        return -1;
    int answer = PyObject_IsTrue(connected);
    Py_DECREF(connected);
    if (answer <= 0)
        return answer;
    long next, most;
    if (read_size(transport, s_next_read, &next) < 0)
        return -1;
    if (next != ROOM)
        return 0;
    return read_size(transport, s_read_size, &most) < 0 ? -1 : most >= ROOM;
}

/* Hand `data` to the protocol of the transport; NULL with an exception. */
static PyObject *
hand_over(PyObject *transport, PyObject *data)
{
    PyObject *protocol = PyObject_GetAttr(transport, s_protocol);
    if (protocol == NULL)
        return NULL;
    PyObject *done = PyObject_CallMethodOneArg(protocol, s_data_received, data);
    Py_DECREF(protocol);
    return done;
}

/* Call `failed(transport, error)` with the exception that has been raised; NULL if that raises. */
static PyObject *
tell(PyObject *failed, PyObject *transport)
{
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (trace != NULL)
        PyException_SetTraceback(error, trace);
    PyObject *done = PyObject_CallFunctionObjArgs(failed, transport, error, NULL);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(trace);
    return done;
}

PyDoc_STRVAR(deal_with_doc, "deal_with(events, selectables, masks, kinds, look_at, failed, ended)\n--\n\n"
                            "Read what the events, pairs of a descriptor and a mask, tell of. `look_at(fd, event)` deals\n"
                            "with what is not plain, `failed(transport, error)` with what a protocol raises, and\n"
                            "`ended(transport, is_lost)` with the end of what there is to read.");

static PyObject *
deal_with(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 7 || !PyList_Check(args[0]) || !PyDict_Check(args[1]) || !PyDict_Check(args[2]) ||
        !PyTuple_Check(args[3]))
        return PyErr_Format(PyExc_TypeError, "a list, two dictionaries, a tuple and three functions");
    PyObject *selectables = args[1], *masks = args[2], *kinds = args[3];
    PyObject *look_at = args[4], *failed = args[5], *ended = args[6];
    char buffer[ROOM];
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(args[0]); i++) {
        PyObject *event = Py_NewRef(PyList_GET_ITEM(args[0], i));
        PyObject *transport = NULL, *done = NULL;
        if (!PyTuple_Check(event) || PyTuple_GET_SIZE(event) != 2) {
            PyErr_SetString(PyExc_TypeError, "an event is a descriptor and a mask");
            goto next;
        }
        PyObject *fd = PyTuple_GET_ITEM(event, 0), *mask;
        long number = PyLong_AsLong(fd), what = PyLong_AsLong(PyTuple_GET_ITEM(event, 1)), asked;
        if (PyErr_Occurred())
            goto next;
        transport = Py_XNewRef(PyDict_GetItemWithError(selectables, fd));
        if (transport == NULL) { /* closed earlier in the round */
            if (!PyErr_Occurred())
                done = Py_NewRef(Py_None);
            goto next;
        }
        mask = PyDict_GetItemWithError(masks, fd);
        asked = mask != NULL ? PyLong_AsLong(mask) : 0;
        if (PyErr_Occurred())
            goto next;
        int is_plain = what == EPOLLIN && asked & EPOLLIN && is_one_of(transport, kinds);
        if (is_plain && (is_plain = reads_plainly(transport)) < 0)
            goto next;
        if (!is_plain) {
            done = PyObject_CallFunctionObjArgs(look_at, fd, PyTuple_GET_ITEM(event, 1), NULL);
            goto next;
        }
        ssize_t size = recv(number, buffer, ROOM, 0);
        if (size <= 0) {
            if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
                done = Py_NewRef(Py_None);
            else
                done = PyObject_CallFunctionObjArgs(ended, transport, size < 0 ? Py_True : Py_False, NULL);
            goto next;
        }
        PyObject *data = PyBytes_FromStringAndSize(buffer, size);
        if (data == NULL)
            goto next;
        done = size < ROOM ? hand_over(transport, data) : PyObject_CallMethodOneArg(transport, s_received, data);
        Py_DECREF(data);
        if (done == NULL)
            done = tell(failed, transport);
    next:
        Py_DECREF(event);
        Py_XDECREF(transport);
        if (done == NULL)
            return NULL;
        Py_DECREF(done);
    }
    Py_RETURN_NONE;
}

/* Send what a plain transport has held back; NULL with an exception. */
static PyObject *
send_one(PyObject *transport)
{
    PyObject *number = NULL, *done = NULL, *data = PyObject_GetAttr(transport, s_held_back);
    if (data == NULL)
        return NULL;
    if (!PyBytes_Check(data)) {
        PyErr_SetString(PyExc_TypeError, "what is held back is bytes");
        goto end;
    }
    Py_ssize_t size = PyBytes_GET_SIZE(data);
    if (!size) {
        done = Py_NewRef(Py_None);
        goto end;
    }
    /* First of all, or the end of one that fails would try to send it, too. */
    if (PyObject_SetAttr(transport, s_held_back, no_bytes) < 0)
        goto end;
    number = PyObject_CallMethodNoArgs(transport, s_fileno);
    if (number == NULL)
        goto end;
    long fd = PyLong_AsLong(number);
    if (fd == -1 && PyErr_Occurred())
        goto end;
    ssize_t sent = send(fd, PyBytes_AS_STRING(data), size, MSG_NOSIGNAL);
    if (sent == size) {
        done = Py_NewRef(Py_None);
        goto end;
    }
    if (sent < 0)
        sent = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -errno;
    PyObject *count = PyLong_FromSsize_t(sent);
    if (count != NULL)
        done = PyObject_CallMethodObjArgs(transport, s_sent, data, count, NULL);
    Py_XDECREF(count);
end:
    Py_DECREF(data);
    Py_XDECREF(number);
    return done;
}

PyDoc_STRVAR(send_all_doc, "send_all(outbox, kinds, failed)\n--\n\n"
                           "Let each transport send what it has held back; `failed(transport, error)` deals with what one\n"
                           "of them raises.");

static PyObject *
send_all(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyList_Check(args[0]) || !PyTuple_Check(args[1]))
        return PyErr_Format(PyExc_TypeError, "a list, a tuple and a function");
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(args[0]); i++) {
        PyObject *transport = Py_NewRef(PyList_GET_ITEM(args[0], i));
        PyObject *done =
            is_one_of(transport, args[1]) ? send_one(transport) : PyObject_CallMethodNoArgs(transport, s_flush);
        if (done == NULL)
            done = tell(args[2], transport);
        Py_DECREF(transport);
        if (done == NULL)
            return NULL;
        Py_DECREF(done);
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"deal_with", (PyCFunction)(void (*)(void))deal_with, METH_FASTCALL, deal_with_doc},
    {"send_all", (PyCFunction)(void (*)(void))send_all, METH_FASTCALL, send_all_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "proxyd.net._round",
    .m_doc = "A round of events, compiled.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__round(void)
{
    struct {
        PyObject **place;
        const char *text;
    } names[] = {
        {&s_next_read, "_next_read"}, {&s_read_size, "read_size"}, {&s_connected, "connected"},
        {&s_protocol, "protocol"}, {&s_data_received, "dataReceived"}, {&s_received, "received"}, {&s_held_back, "held_back"},
        {&s_fileno, "fileno"}, {&s_sent, "sent"}, {&s_flush, "flush"},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++)
        if ((*names[i].place = PyUnicode_InternFromString(names[i].text)) == NULL)
            return NULL;
    if ((no_bytes = PyBytes_FromStringAndSize(NULL, 0)) == NULL)
        return NULL;
    return PyModule_Create(&definition);
}
