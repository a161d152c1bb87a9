/* The plain cases of reading heads and targets, and of lines of the log, compiled.

   Each function here decides nothing that Python does not decide as well: it takes what is plainly valid, and gives
   back None for everything else, be it rare or wrong. The Python function that called it goes on then, so that each
   rule of framing, and each error, is written down once. What is taken must come out exactly as it does there:
   tests/core/test_scan.py compares the two. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#define TOKEN 1      /* RFC 9110 5.6.2 */
#define TEXT 2       /* may stand in a line: everything but control characters, HTAB included */
#define TARGET 4     /* may stand in a request target */
#define HOST 8       /* in the name of a host or an IPv4 address, of those that are usual */
#define LOG 16       /* stands for itself in a line of the access log */
#define PATH 32      /* in a path, with a single reading */

static unsigned char classes[256];

static void
fill_classes(void)
{
    const char *also = "!#$%&'*+-.^_`|~";
    for (int byte = 0; byte < 256; byte++) {
        int is_alphanumeric =
            (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
        unsigned char found = 0;
        if (is_alphanumeric || (byte && strchr(also, byte)))
            found |= TOKEN;
        if ((byte >= 0x20 && byte != 0x7f) || byte == '\t')
            found |= TEXT;
        if (byte > 0x20 && byte != 0x7f)
            found |= TARGET;
        if (is_alphanumeric || byte == '.' || byte == '-')
            found |= HOST;
        if (byte >= 0x20 && !(byte >= 0x7f && byte <= 0x9f) && byte != '"' && byte != '\\')
            found |= LOG;
        if (byte > 0x20 && byte < 0x7f && !strchr("%#<>\"\\?", byte))
            found |= PATH;
        classes[byte] = found;
    }
}

/* Whether `text` is `name`, which is in lower case, in whatever case. */
static int
is_called(const unsigned char *text, const char *name, Py_ssize_t size)
{
    for (Py_ssize_t i = 0; i < size; i++) {
        unsigned char byte = text[i];
        if (byte >= 'A' && byte <= 'Z')
            byte |= 0x20;
        if (byte != (unsigned char)name[i])
            return 0;
    }
    return 1;
}

/* Names of attributes and keys, made once. */
static PyObject *s_method, *s_target, *s_block, *s_host, *s_user_agent, *s_referer, *s_keep_alive, *s_body,
    *s_has_length, *s_forwarded, *s_status, *s_reason, *s_has_date, *s_location;
static PyObject *k_for, *k_host, *k_port, *k_proto;
static PyObject *statuses[600];

typedef enum {
    ORDINARY,
    F_HOST,
    F_CONNECTION,
    F_LENGTH,
    F_CODING,
    F_DROPPED,
    F_RARE,
    F_FOR,
    F_XHOST,
    F_PORT,
    F_PROTO,
    F_USER_AGENT,
    F_REFERER,
    F_DATE,
    F_LOCATION,
} Kind;

static Kind
request_kind(const unsigned char *name, Py_ssize_t size)
{
#define IS(word) is_called(name, word, size)
    switch (size) {
    case 2:
        return IS("te") ? F_DROPPED : ORDINARY;
    case 4:
        return IS("host") ? F_HOST : ORDINARY;
    case 5:
        return IS("proxy") ? F_DROPPED : ORDINARY;
    case 6:
        return IS("expect") ? F_RARE : ORDINARY;
    case 7:
        return IS("referer") ? F_REFERER : IS("upgrade") ? F_RARE : IS("trailer") ? F_DROPPED : ORDINARY;
    case 10:
        return IS("user-agent") ? F_USER_AGENT
               : IS("connection") ? F_CONNECTION
               : IS("keep-alive") ? F_DROPPED
                                  : ORDINARY;
    case 14:
        return IS("content-length") ? F_LENGTH : ORDINARY;
    case 15:
        return IS("x-forwarded-for") ? F_FOR : ORDINARY;
    case 16:
        return IS("x-forwarded-host") ? F_XHOST
               : IS("x-forwarded-port") ? F_PORT
               : IS("proxy-connection") ? F_DROPPED
                                        : ORDINARY;
    case 17:
        return IS("x-forwarded-proto") ? F_PROTO : IS("transfer-encoding") ? F_RARE : ORDINARY;
    default:
        return ORDINARY;
    }
}

static Kind
response_kind(const unsigned char *name, Py_ssize_t size)
{
    switch (size) {
    case 2:
        return IS("te") ? F_DROPPED : ORDINARY;
    case 4:
        return IS("date") ? F_DATE : ORDINARY;
    case 7:
        return IS("upgrade") ? F_RARE : IS("trailer") ? F_DROPPED : ORDINARY;
    case 8:
        return IS("location") ? F_LOCATION : ORDINARY;
    case 10:
        return IS("connection") ? F_CONNECTION : IS("keep-alive") ? F_DROPPED : ORDINARY;
    case 14:
        return IS("content-length") ? F_LENGTH : ORDINARY;
    case 16:
        return IS("proxy-connection") ? F_DROPPED : ORDINARY;
    case 17:
        return IS("transfer-encoding") ? F_CODING : ORDINARY;
    default:
        return ORDINARY;
    }
#undef IS
}

/* A line of a head: where it begins and ends, its name, and its value without blanks around it. */
typedef struct {
    const unsigned char *start, *end, *value, *value_end;
    Py_ssize_t name_size;
} Line;

/* Read the line at *at, and set *at behind its CRLF (or to `end`). 0 if it is no plain field. */
static int
next_line(const unsigned char **at, const unsigned char *end, Line *line)
{
    const unsigned char *p = *at;
    line->start = p;
    while (p < end && (classes[*p] & TOKEN))
        p++;
    line->name_size = p - line->start;
    if (!line->name_size || p == end || *p != ':')
        return 0;
    p++;
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    line->value = p;
    while (p < end && (classes[*p] & TEXT))
        p++;
    line->end = p;
    if (p == end)
        *at = end;
    else if (end - p >= 2 && p[0] == '\r' && p[1] == '\n' && end - p > 2)
        *at = p + 2;
    else
        return 0;
    while (p > line->value && (p[-1] == ' ' || p[-1] == '\t'))
        p--;
    line->value_end = p;
    return 1;
}

/* The value of a Content-Length, -1 if it is no plain one. */
static long long
plain_length(const Line *line)
{
    Py_ssize_t size = line->value_end - line->value;
    long long length = 0;
    if (size < 1 || size > 18)
        return -1;
    for (const unsigned char *p = line->value; p < line->value_end; p++) {
        if (*p < '0' || *p > '9')
            return -1;
        length = length * 10 + (*p - '0');
    }
    return length;
}

static PyObject *
value_of(const Line *line)
{
    return PyBytes_FromStringAndSize((const char *)line->value, line->value_end - line->value);
}

/* Append the line and a CRLF at `to`, where there is room for it; behind them. */
static char *
keep(char *to, const Line *line)
{
    Py_ssize_t size = line->end - line->start;
    memcpy(to, line->start, size);
    to[size] = '\r';
    to[size + 1] = '\n';
    return to + size + 2;
}

/* Set an attribute and let go of the value; -1 on failure, also if there is no value. */
static int
set_new(PyObject *owner, PyObject *name, PyObject *value)
{
    int failed = value == NULL || PyObject_SetAttr(owner, name, value) < 0;
    Py_XDECREF(value);
    return failed ? -1 : 0;
}

static int
is_plain_authority(const unsigned char *text, Py_ssize_t size)
{
    Py_ssize_t i = 0;
    if (size < 1 || size > 262)
        return 0;
    while (i < size && (classes[text[i]] & HOST))
        i++;
    if (i == size)
        return 1;
    if (text[i] != ':' || size - i - 1 > 5)
        return 0;
    for (i++; i < size; i++)
        if (text[i] < '0' || text[i] > '9')
            return 0;
    return 1;
}

PyDoc_STRVAR(read_request_doc,
             "read_request(kind, block, limits)\n--\n\n"
             "A `kind()` with the attributes of a request's head, or None if it is no plain one.");

static PyObject *
read_request(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyBytes_Check(args[1]) || !PyTuple_Check(args[2]) || PyTuple_GET_SIZE(args[2]) != 4)
        return PyErr_Format(PyExc_TypeError, "a kind, bytes and four limits: request line, fields, a field, their number");
    const unsigned char *block = (const unsigned char *)PyBytes_AS_STRING(args[1]);
    const unsigned char *end = block + PyBytes_GET_SIZE(args[1]);
    Py_ssize_t limits[4];
    for (int i = 0; i < 4; i++)
        limits[i] = PyLong_AsSsize_t(PyTuple_GET_ITEM(args[2], i));
    if (PyErr_Occurred())
        return NULL;

    const unsigned char *p = block;
    while (p < end && (classes[*p] & TOKEN))
        p++;
    Py_ssize_t method_size = p - block;
    if (method_size < 1 || method_size > 64 || p == end || *p != ' ')
        Py_RETURN_NONE;
    const unsigned char *target = ++p;
    while (p < end && (classes[*p] & TARGET))
        p++;
    Py_ssize_t target_size = p - target;
    /* " HTTP/1.1\r\n", and there is a field behind it: without a Host it is not a plain head. */
    if (target_size < 1 || end - p < 12 || memcmp(p, " HTTP/1.1\r\n", 11) != 0)
        Py_RETURN_NONE;
    p += 9;
    if (p - block > limits[0] || end - p > limits[1])
        Py_RETURN_NONE;
    p += 2;

    /* Lines are only left out, and the last one gets a CRLF. */
    PyObject *head = NULL, *forwarded = NULL, *kept = PyBytes_FromStringAndSize(NULL, end - p + 2);
    if (kept == NULL)
        return NULL;
    char *kept_end = PyBytes_AS_STRING(kept);
    Line line, host = {0}, user_agent = {0}, referer = {0};
    int has_connection = 0, closes = 0;
    long long length = -1;
    Py_ssize_t seen = 0;
    while (p < end) {
        PyObject *key = NULL;
        if (!next_line(&p, end, &line) || line.end - line.start > limits[2] || ++seen > limits[3])
            goto not_plain;
        Py_ssize_t value_size = line.value_end - line.value;
        switch (request_kind(line.start, line.name_size)) {
        case F_HOST:
            if (host.start || !is_plain_authority(line.value, value_size))
                goto not_plain;
            host = line;
            continue;
        case F_CONNECTION:
            if (has_connection)
                goto not_plain;
            has_connection = 1;
            closes = value_size == 5 && memcmp(line.value, "close", 5) == 0;
            if (!closes && !(value_size == 10 && memcmp(line.value, "keep-alive", 10) == 0))
                goto not_plain;
            continue;
        case F_LENGTH:
            if (length >= 0 || (length = plain_length(&line)) < 0)
                goto not_plain;
            continue;
        case F_DROPPED:
            continue;
        case F_FOR:
            key = k_for;
            break;
        case F_XHOST:
            key = k_host;
            break;
        case F_PORT:
            key = k_port;
            break;
        case F_PROTO:
            key = k_proto;
            break;
        case F_USER_AGENT:
            user_agent = line;
            break;
        case F_REFERER:
            referer = line;
            break;
        case ORDINARY:
            /* A name with `_` may read as one of X-Forwarded-* elsewhere. */
            if (memchr(line.start, '_', line.name_size))
                goto not_plain;
            break;
        default:
            goto not_plain;
        }
        if (key == NULL) {
            kept_end = keep(kept_end, &line);
            continue;
        }
        if (forwarded == NULL && (forwarded = PyDict_New()) == NULL)
            goto failed;
        if (PyDict_GetItemWithError(forwarded, key) != NULL)
            goto not_plain;
        PyObject *value = value_of(&line);
        int is_set = value != NULL && PyDict_SetItem(forwarded, key, value) == 0;
        Py_XDECREF(value);
        if (!is_set)
            goto failed;
    }
    if (!host.start)
        goto not_plain;

    if (_PyBytes_Resize(&kept, kept_end - PyBytes_AS_STRING(kept)) < 0)
        goto failed;
    head = PyObject_CallNoArgs(args[0]);
    if (head == NULL)
        goto failed;
    if (set_new(head, s_method, PyBytes_FromStringAndSize((const char *)block, method_size)) < 0 ||
        set_new(head, s_target, PyBytes_FromStringAndSize((const char *)target, target_size)) < 0 ||
        PyObject_SetAttr(head, s_block, kept) < 0 || set_new(head, s_host, value_of(&host)) < 0)
        goto failed;
    if (user_agent.start && set_new(head, s_user_agent, value_of(&user_agent)) < 0)
        goto failed;
    if (referer.start && set_new(head, s_referer, value_of(&referer)) < 0)
        goto failed;
    if (closes && PyObject_SetAttr(head, s_keep_alive, Py_False) < 0)
        goto failed;
    if (length >= 0 && (set_new(head, s_body, PyLong_FromLongLong(length)) < 0 ||
                        PyObject_SetAttr(head, s_has_length, Py_True) < 0))
        goto failed;
    if (forwarded && PyObject_SetAttr(head, s_forwarded, forwarded) < 0)
        goto failed;
    Py_XDECREF(kept);
    Py_XDECREF(forwarded);
    return head;

not_plain:
    Py_XDECREF(kept);
    Py_XDECREF(forwarded);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;

failed:
    Py_XDECREF(head);
    Py_XDECREF(kept);
    Py_XDECREF(forwarded);
    return NULL;
}

PyDoc_STRVAR(read_response_doc, "read_response(kind, block)\n--\n\n"
                                "A `kind()` with the attributes of a response's head, or None if it is no plain one.");

static PyObject *
read_response(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyBytes_Check(args[1]))
        return PyErr_Format(PyExc_TypeError, "a kind and bytes");
    const unsigned char *block = (const unsigned char *)PyBytes_AS_STRING(args[1]);
    const unsigned char *end = block + PyBytes_GET_SIZE(args[1]);
    if (end - block < 13 || memcmp(block, "HTTP/1.1 ", 9) != 0 || block[12] != ' ')
        Py_RETURN_NONE;
    const unsigned char *p = block + 9;
    for (int i = 0; i < 3; i++)
        if (p[i] < '0' || p[i] > '9')
            Py_RETURN_NONE;
    int status = (p[0] - '0') * 100 + (p[1] - '0') * 10 + (p[2] - '0');
    /* 1xx is left to Python: a 101 has an Upgrade. */
    if (status < 200 || status > 599)
        Py_RETURN_NONE;
    const unsigned char *reason = p = block + 13;
    while (p < end && (classes[*p] & TEXT))
        p++;
    Py_ssize_t reason_size = p - reason;
    if (end - p < 3 || p[0] != '\r' || p[1] != '\n')
        Py_RETURN_NONE;
    p += 2;

    PyObject *head = NULL, *kept = PyBytes_FromStringAndSize(NULL, end - p + 2);
    if (kept == NULL)
        return NULL;
    char *kept_end = PyBytes_AS_STRING(kept);
    Line line, location = {0};
    int has_connection = 0, closes = 0, has_date = 0, is_chunked = 0;
    long long length = -1;
    while (p < end) {
        if (!next_line(&p, end, &line))
            goto not_plain;
        Py_ssize_t value_size = line.value_end - line.value;
        switch (response_kind(line.start, line.name_size)) {
        case F_CONNECTION:
            if (has_connection)
                goto not_plain;
            has_connection = 1;
            closes = value_size == 5 && is_called(line.value, "close", 5);
            if (!closes && !(value_size == 10 && is_called(line.value, "keep-alive", 10)))
                goto not_plain;
            continue;
        case F_LENGTH:
            if (is_chunked || length >= 0 || (length = plain_length(&line)) < 0)
                goto not_plain;
            continue;
        case F_CODING:
            if (is_chunked || length >= 0 || value_size != 7 || !is_called(line.value, "chunked", 7))
                goto not_plain;
            is_chunked = 1;
            continue;
        case F_DROPPED:
            continue;
        case F_DATE:
            has_date = 1;
            break;
        case F_LOCATION:
            location = line;
            break;
        case ORDINARY:
            break;
        default:
            goto not_plain;
        }
        kept_end = keep(kept_end, &line);
    }

    if (_PyBytes_Resize(&kept, kept_end - PyBytes_AS_STRING(kept)) < 0)
        goto failed;
    head = PyObject_CallNoArgs(args[0]);
    if (head == NULL)
        goto failed;
    if (PyObject_SetAttr(head, s_status, statuses[status]) < 0 ||
        set_new(head, s_reason, PyBytes_FromStringAndSize((const char *)reason, reason_size)) < 0 ||
        PyObject_SetAttr(head, s_block, kept) < 0)
        goto failed;
    if ((length >= 0 || is_chunked) && set_new(head, s_body, PyLong_FromLongLong(is_chunked ? -1 : length)) < 0)
        goto failed;
    if (closes && PyObject_SetAttr(head, s_keep_alive, Py_False) < 0)
        goto failed;
    if (has_date && PyObject_SetAttr(head, s_has_date, Py_True) < 0)
        goto failed;
    if (location.start && set_new(head, s_location, value_of(&location)) < 0)
        goto failed;
    Py_XDECREF(kept);
    return head;

not_plain:
    Py_XDECREF(kept);
    Py_RETURN_NONE;

failed:
    Py_XDECREF(head);
    Py_XDECREF(kept);
    return NULL;
}

PyDoc_STRVAR(plain_target_doc, "plain_target(target)\n--\n\n"
                               "Path, query with its `?`, and the key of a route, or None if the target is no plain one.");

static PyObject *
plain_target(PyObject *module, PyObject *target)
{
    if (!PyBytes_Check(target))
        return PyErr_Format(PyExc_TypeError, "bytes");
    const unsigned char *start = (const unsigned char *)PyBytes_AS_STRING(target);
    Py_ssize_t size = PyBytes_GET_SIZE(target), path_size = 0, segments = 0;
    if (!size || start[0] != '/')
        Py_RETURN_NONE;
    while (path_size < size && (classes[start[path_size]] & PATH)) {
        if (start[path_size] == '/') {
            if (path_size + 1 < size && start[path_size + 1] == '.')
                Py_RETURN_NONE;
            segments++;
        }
        path_size++;
    }
    if (path_size < size && start[path_size] != '?')
        Py_RETURN_NONE;
    for (Py_ssize_t i = path_size; i < size; i++)
        if (strchr("#<>\"", start[i]) || !start[i])
            Py_RETURN_NONE;

    /* As str.strip("/").split("/"): inner empty segments count. */
    Py_ssize_t first = 0, last = path_size;
    while (first < last && start[first] == '/') {
        first++;
        segments--;
    }
    while (last > first && start[last - 1] == '/') {
        last--;
        segments--;
    }
    PyObject *key = PyTuple_New(first == last ? 0 : segments + 1);
    if (key == NULL)
        return NULL;
    Py_ssize_t begin = first, index = 0;
    for (Py_ssize_t i = first; first != last && i <= last; i++) {
        if (i < last && start[i] != '/')
            continue;
        PyObject *segment = PyUnicode_FromStringAndSize((const char *)start + begin, i - begin);
        if (segment == NULL) {
            Py_DECREF(key);
            return NULL;
        }
        PyTuple_SET_ITEM(key, index++, segment);
        begin = i + 1;
    }
    PyObject *path = NULL, *query = NULL;
    if (path_size == size)
        path = Py_NewRef(target);
    else
        path = PyBytes_FromStringAndSize((const char *)start, path_size);
    query = PyBytes_FromStringAndSize((const char *)start + path_size, size - path_size);
    PyObject *found = path && query ? PyTuple_Pack(3, path, query, key) : NULL;
    Py_XDECREF(path);
    Py_XDECREF(query);
    Py_DECREF(key);
    return found;
}

/* Append up to 1024 bytes of `value`, up to `stop` (-1: none), as it may stand in a line of a log; `-` if there are none and
   `dash` says so. The room is there: 4 bytes for each. */
static char *
append_value(char *p, PyObject *value, int stop, int dash)
{
    const unsigned char *text = (const unsigned char *)PyBytes_AS_STRING(value);
    Py_ssize_t size = PyBytes_GET_SIZE(value);
    const unsigned char *found = stop >= 0 ? memchr(text, stop, size) : NULL;
    if (found)
        size = found - text;
    if (size > 1024)
        size = 1024;
    if (!size && dash)
        *p++ = '-';
    for (Py_ssize_t i = 0; i < size; i++) {
        if (classes[text[i]] & LOG) {
            *p++ = text[i];
        } else {
            *p++ = '\\';
            *p++ = 'x';
            *p++ = "0123456789abcdef"[text[i] >> 4];
            *p++ = "0123456789abcdef"[text[i] & 15];
        }
    }
    return p;
}

static char *
append_text(char *p, PyObject *text)
{
    Py_ssize_t size = PyUnicode_GET_LENGTH(text);
    memcpy(p, PyUnicode_1BYTE_DATA(text), size);
    return p + size;
}

PyDoc_STRVAR(combined_line_doc,
             "combined_line(address, user, stamp, method, target, version, status, sent, referer, user_agent, seconds, "
             "request_id)\n--\n\n"
             "A line of the Combined Log Format as `CombinedLog` has it, or None if the user is no ASCII.");

static PyObject *
combined_line(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 12)
        return PyErr_Format(PyExc_TypeError, "twelve values");
    static const int values[] = {0, 3, 4, 8, 9}, texts[] = {1, 2, 11};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(values); i++)
        if (!PyBytes_Check(args[values[i]]))
            return PyErr_Format(PyExc_TypeError, "what came from the client is bytes");
    Py_ssize_t room = 5 * 4 * 1024 + 256;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(texts); i++) {
        if (!PyUnicode_Check(args[texts[i]]))
            return PyErr_Format(PyExc_TypeError, "user, time and request id are text");
        if (!PyUnicode_IS_ASCII(args[texts[i]]))
            Py_RETURN_NONE;
        room += PyUnicode_GET_LENGTH(args[texts[i]]);
    }
    long version = PyLong_AsLong(args[5]), status = PyLong_AsLong(args[6]);
    long long sent = PyLong_AsLongLong(args[7]);
    double seconds = PyFloat_AsDouble(args[10]);
    if (PyErr_Occurred())
        return NULL;
    char *took = PyOS_double_to_string(seconds, 'f', 4, 0, NULL);
    if (took == NULL)
        return NULL;
    size_t took_size = strlen(took);
    char *line = PyMem_Malloc(room + took_size);
    if (line == NULL) {
        PyMem_Free(took);
        return PyErr_NoMemory();
    }
    char *p = line;
    if (PyBytes_GET_SIZE(args[0])) {
        p = append_value(p, args[0], -1, 0);
    } else {
        memcpy(p, "unix", 4);
        p += 4;
    }
    memcpy(p, " - ", 3);
    p = append_text(p + 3, args[1]);
    memcpy(p, " [", 2);
    p = append_text(p + 2, args[2]);
    memcpy(p, "] \"", 3);
    p = append_value(p + 3, args[3], -1, 0);
    *p++ = ' ';
    p = append_value(p, args[4], '?', 0);
    p += sprintf(p, " HTTP/1.%ld\" ", version);
    p += status ? sprintf(p, "%ld", status) : sprintf(p, "-");
    p += sprintf(p, " %lld \"", sent);
    p = append_value(p, args[8], '?', 1);
    memcpy(p, "\" \"", 3);
    p = append_value(p + 3, args[9], -1, 1);
    memcpy(p, "\" ", 2);
    memcpy(p + 2, took, took_size);
    p += 2 + took_size;
    *p++ = ' ';
    if (PyUnicode_GET_LENGTH(args[11]))
        p = append_text(p, args[11]);
    else
        *p++ = '-';
    *p++ = '\n';
    PyObject *made = PyUnicode_DecodeLatin1(line, p - line, NULL);
    PyMem_Free(line);
    PyMem_Free(took);
    return made;
}

static PyMethodDef methods[] = {
    {"read_request", (PyCFunction)(void (*)(void))read_request, METH_FASTCALL, read_request_doc},
    {"read_response", (PyCFunction)(void (*)(void))read_response, METH_FASTCALL, read_response_doc},
    {"plain_target", plain_target, METH_O, plain_target_doc},
    {"combined_line", (PyCFunction)(void (*)(void))combined_line, METH_FASTCALL, combined_line_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "proxyd.core._scan",
    .m_doc = "The plain cases of reading heads and targets, and of lines of the log, compiled.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__scan(void)
{
    struct {
        PyObject **place;
        const char *text;
    } names[] = {
        {&s_method, "method"},         {&s_target, "target"},         {&s_block, "block"} ,
        {&s_host, "host"},             {&s_user_agent, "user_agent"}, {&s_referer, "referer"},
        {&s_keep_alive, "keep_alive"}, {&s_body, "body"},             {&s_has_length, "has_length"},
        {&s_forwarded, "forwarded"},   {&s_status, "status"},         {&s_reason, "reason"},
        {&s_has_date, "has_date"},     {&s_location, "location"},
    };
    struct {
        PyObject **place;
        const char *text;
    } keys[] = {
        {&k_for, "x-forwarded-for"},
        {&k_host, "x-forwarded-host"},
        {&k_port, "x-forwarded-port"},
        {&k_proto, "x-forwarded-proto"},
    };
    fill_classes();
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++)
        if ((*names[i].place = PyUnicode_InternFromString(names[i].text)) == NULL)
            return NULL;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(keys); i++)
        if ((*keys[i].place = PyBytes_FromString(keys[i].text)) == NULL)
            return NULL;
    for (int i = 200; i < 600; i++)
        if ((statuses[i] = PyLong_FromLong(i)) == NULL)
            return NULL;
    return PyModule_Create(&definition);
}
