/* test_file.c - base/file: folders made, files that take their name in one step.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static char folder[64];

static int make_scratch(void **state) {
    (void)state;
    strcpy(folder, "/tmp/embound-file-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_scratch(void **state) {
    (void)state;
    return rmdir(folder);
}

/* A path below the scratch folder; four at once. */
static char *at(const char *name) {
    static char paths[4][256];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void put(const char *name, const char *text) {
    FILE *file = fopen(at(name), "wb");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void expect_content(const char *name, const char *text) {
    char found[64] = "";
    FILE *file = fopen(at(name), "rb");
    assert_non_null(file);
    size_t length = fread(found, 1, sizeof found - 1, file);
    fclose(file);
    assert_int_equal(length, strlen(text));
    assert_string_equal(found, text);
}

static bool is_there(const char *name) {
    return access(at(name), F_OK) == 0;
}

static void folders_are_made_once(void **state) {
    (void)state;
    struct stat about;
    char *path = at("a/b//c");
    mode_t mask = umask(022);
    assert_int_equal(emb_file_make_folders(path, 0750), 0);
    assert_string_equal(path + strlen(folder), "/a/b//c"); /* as it was */
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0750);
    assert_int_equal(emb_file_make_folders(path, 0700), 0); /* there already */
    umask(mask);
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0750);
    put("a/file", "");
    path = at("a/file/x/y");
    assert_int_equal(emb_file_make_folders(path, 0700), EEXIST);
    assert_string_equal(path + strlen(folder), "/a/file"); /* what is in the way */
    char empty[1] = "";
    assert_int_equal(emb_file_make_folders(empty, 0700), ENOENT);
    unlink(at("a/file"));
    rmdir(at("a/b/c"));
    rmdir(at("a/b"));
    rmdir(at("a"));
}

static void a_file_is_published_in_one_step(void **state) {
    (void)state;
    put("name", "old");
    int descriptor = open(at("temporary"), O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(descriptor >= 0);
    assert_int_equal(emb_file_write(descriptor, "new one", 7, 0, NULL), 0);
    expect_content("name", "old");
    assert_int_equal(emb_file_publish(AT_FDCWD, descriptor, at("temporary"), at("name")), 0);
    expect_content("name", "new one");
    assert_false(is_there("temporary"));
    /* no such file any more */
    assert_int_equal(emb_file_publish(AT_FDCWD, descriptor, at("temporary"), at("name")), ENOENT);
    close(descriptor);
    assert_int_equal(emb_file_publish(AT_FDCWD, descriptor, at("temporary"), at("name")), EBADF);
    expect_content("name", "new one");
    unlink(at("name"));
}

static void a_file_is_replaced_whole_or_not(void **state) {
    (void)state;
    for (int lasts = 0; lasts < 2; lasts++) {
        put("temporary", "longer than what comes");
        assert_int_equal(
            emb_file_replace(AT_FDCWD, at("temporary"), at("name"), 0600, "1", 1, lasts), 0);
        expect_content("name", "1");
        assert_false(is_there("temporary"));
        /* from inside the folder, and over what is there */
        int inside = open(folder, O_RDONLY | O_DIRECTORY);
        assert_int_equal(emb_file_replace(inside, "temporary", "name", 0600, "", 0, lasts), 0);
        close(inside);
        expect_content("name", "");
        /* a folder in the way: nothing changes, nothing is left */
        assert_int_equal(mkdir(at("taken"), 0700), 0);
        assert_int_not_equal(
            emb_file_replace(AT_FDCWD, at("temporary"), at("taken"), 0600, "1", 1, lasts), 0);
        assert_false(is_there("temporary"));
        assert_int_equal(rmdir(at("taken")), 0);
        /* no link is followed */
        assert_int_equal(symlink("name", at("temporary")), 0);
        assert_int_equal(
            emb_file_replace(AT_FDCWD, at("temporary"), at("other"), 0600, "1", 1, lasts), ELOOP);
        expect_content("name", "");
        unlink(at("temporary"));
        unlink(at("name"));
    }
}

static void writing_says_how_far_it_came(void **state) {
    (void)state;
    size_t written = 7;
    int full = open("/dev/full", O_WRONLY);
    if (full < 0) skip();
    assert_int_equal(emb_file_write(full, "abc", 3, 0, &written), ENOSPC);
    assert_int_equal(written, 0);
    emb_error error = {0};
    assert_int_equal(emb_file_write_at(full, "abc", 3, 5, "PATH", &error), EMB_IO);
    assert_string_equal(error.message, "PATH: write failed at byte 5: No space left on device");
    close(full);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_are_made_once),
        cmocka_unit_test(a_file_is_published_in_one_step),
        cmocka_unit_test(a_file_is_replaced_whole_or_not),
        cmocka_unit_test(writing_says_how_far_it_came),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
