/* Run a command to its end, and say what it took.
 *
 *     measure SECONDS OUTPUT ERRORS COMMAND...
 *
 * Its standard output and errors go to these files. One line is printed: seconds from fork to end,
 * CPU seconds (user and system, of the command and all its children that were waited for), KB of
 * memory of its largest process at the peak, and how it ended: an exit status, -N for signal N, or
 * "late" if it was still running after SECONDS and was killed.
 *
 * A program of its own because the kernel counts the memory of who forks as that of who is run,
 * and because starting a process costs Python what some of the measured ones take altogether.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pid_t child;
static volatile sig_atomic_t late;

static void stop(int number)
{
	(void)number;
	late = 1;
	kill(-child, SIGKILL);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static double seconds(struct timeval t)
{
	return t.tv_sec + t.tv_usec / 1e6;
}

static void redirect(const char *path, int to)
{
	int fd = open(path, to ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY, 0600);
	if (fd < 0 || dup2(fd, to) < 0)
		err(126, "%s", path);
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc < 5)
		errx(2, "usage: measure SECONDS OUTPUT ERRORS COMMAND...");
	struct itimerval limit = {.it_value.tv_sec = atoi(argv[1])};
	struct rusage used;
	int status;
	signal(SIGALRM, stop);
	double began = now();
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (child == 0) {
		setpgid(0, 0);
		redirect("/dev/null", 0);
		redirect(argv[2], 1);
		redirect(argv[3], 2);
		execvp(argv[4], argv + 4);
		err(127, "%s", argv[4]);
	}
	setpgid(child, child);
	setitimer(ITIMER_REAL, &limit, NULL);
	while (wait4(child, &status, 0, &used) < 0)
		if (errno != EINTR)
			err(1, "wait");
	double took = now() - began;
	printf("%.6f %.6f %ld ", took, seconds(used.ru_utime) + seconds(used.ru_stime), used.ru_maxrss);
	if (late)
		puts("late");
	else
		printf("%d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
	return 0;
}
