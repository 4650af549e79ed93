/* The event log that Wine only pretends to have: what the agent asks of it, answered from a file.
 *
 * C:\ringward-events.xml holds one rendered event a line, oldest first, its record number in
 * <EventRecordID>. Queries are not read: the file holds what they would select. */
#include <windows.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG "C:\\ringward-events.xml"
#define LINE_MAX 65536
#define EXPORT __declspec(dllexport)
#define REFUSE_GAPS 0x10000
#define AFTER_BOOKMARK 3
#define AS_BOOKMARK 2

enum kind { SUBSCRIPTION, BOOKMARK, EVENT };

struct handle {
    enum kind kind;
    unsigned long long record; /* of a subscription: the last one that was given */
    HANDLE signal;
    HANDLE watcher;
    volatile LONG closed;
    char *xml;
};

static unsigned long long record_of(const char *line)
{
    const char *at = strstr(line, "<EventRecordID>");
    return at ? strtoull(at + 15, NULL, 10) : 0;
}

/* The first event after this record, or NULL. */
static char *next_event(unsigned long long after)
{
    char line[LINE_MAX];
    char *found = NULL;
    FILE *log = fopen(LOG, "rb");
    if (!log)
        return NULL;
    while (!found && fgets(line, sizeof line, log))
        if (strchr(line, '\n') && record_of(line) > after)
            found = _strdup(line);
    fclose(log);
    return found;
}

static int is_there(unsigned long long record)
{
    char *event = record ? next_event(record - 1) : NULL;
    int there = event && record_of(event) == record;
    free(event);
    return there;
}

static struct handle *make(enum kind kind, unsigned long long record)
{
    struct handle *made = calloc(1, sizeof *made);
    made->kind = kind;
    made->record = record;
    return made;
}

/* Sets the signal while there are records that were not given. */
static DWORD WINAPI watch(void *of)
{
    struct handle *subscription = of;
    while (!subscription->closed) {
        char *event = next_event(subscription->record);
        if (event)
            SetEvent(subscription->signal);
        free(event);
        Sleep(200);
    }
    return 0;
}

EXPORT HANDLE WINAPI EvtSubscribe(HANDLE session, HANDLE signal, LPCWSTR channel, LPCWSTR query,
                                  HANDLE bookmark, void *context, void *callback, DWORD flags)
{
    struct handle *made, *after = bookmark;
    unsigned long long record = 0;
    (void)session, (void)channel, (void)query, (void)context, (void)callback;
    if ((flags & 3) == AFTER_BOOKMARK && after) {
        record = after->record;
        if ((flags & REFUSE_GAPS) && !is_there(record)) {
            SetLastError(ERROR_NOT_FOUND);
            return NULL;
        }
    }
    made = make(SUBSCRIPTION, record);
    made->signal = signal;
    made->watcher = CreateThread(NULL, 0, watch, made, 0, NULL);
    return made;
}

EXPORT BOOL WINAPI EvtNext(HANDLE of, DWORD size, HANDLE *events, DWORD timeout, DWORD flags,
                           DWORD *returned)
{
    struct handle *subscription = of;
    (void)timeout, (void)flags;
    for (*returned = 0; *returned < size; ++*returned) {
        char *xml = next_event(subscription->record);
        struct handle *event;
        if (!xml)
            break;
        event = make(EVENT, record_of(xml));
        event->xml = xml;
        subscription->record = event->record;
        events[*returned] = event;
    }
    if (*returned)
        return TRUE;
    SetLastError(ERROR_NO_MORE_ITEMS);
    return FALSE;
}

EXPORT HANDLE WINAPI EvtCreateBookmark(LPCWSTR xml)
{
    const WCHAR *at = xml ? wcsstr(xml, L"RecordId='") : NULL;
    return make(BOOKMARK, at ? wcstoul(at + 10, NULL, 10) : 0);
}

EXPORT BOOL WINAPI EvtUpdateBookmark(HANDLE bookmark, HANDLE event)
{
    ((struct handle *)bookmark)->record = ((struct handle *)event)->record;
    return TRUE;
}

EXPORT BOOL WINAPI EvtRender(HANDLE context, HANDLE of, DWORD what, DWORD size, void *buffer,
                             DWORD *used, DWORD *properties)
{
    struct handle *handle = of;
    char bookmark[128];
    const char *text = handle->xml;
    int units;
    (void)context;
    *properties = 0;
    if (what == AS_BOOKMARK) {
        snprintf(bookmark, sizeof bookmark,
                 "<BookmarkList><Bookmark Channel='System' RecordId='%llu' IsCurrent='true'/>"
                 "</BookmarkList>",
                 handle->record);
        text = bookmark;
    }
    units = MultiByteToWideChar(CP_UTF8, 0, text, -1, NULL, 0);
    *used = units * sizeof(WCHAR);
    if (*used > size) {
        SetLastError(ERROR_INSUFFICIENT_BUFFER);
        return FALSE;
    }
    MultiByteToWideChar(CP_UTF8, 0, text, -1, buffer, units);
    return TRUE;
}

EXPORT BOOL WINAPI EvtClose(HANDLE of)
{
    struct handle *handle = of;
    if (handle->watcher) {
        handle->closed = 1;
        WaitForSingleObject(handle->watcher, INFINITE);
        CloseHandle(handle->watcher);
    }
    free(handle->xml);
    free(handle);
    return TRUE;
}
