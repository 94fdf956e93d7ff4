// SPDX-License-Identifier: MIT
/** What the page of `timeline.ts --live` says, in English and in Chinese. */

export const languages = ["en", "zh"] as const;
export type Language = typeof languages[number];
type Words = Record<Language, string>;

/** What stands on buttons and in the page's messages: the English words are the names of the others. */
const chinese = {
  ": ": "：",
  "Experiments:": "实验：",
  "the fourth waits": "第四个要等",
  "backpressure": "背压",
  "half-close": "半关闭",
  "one client computes": "一个客户端要计算",
  "start": "启动",
  "stop": "停止",
  "connect 1": "连接 1 个",
  "connect 10": "连接 10 个",
  "send 1 B": "发 1 字节",
  "send light": "发 light",
  "send 64 KiB": "发 64 KiB",
  "send 16 MiB": "发 16 MiB",
  "stop reading": "停止读取",
  "read again": "恢复读取",
  "reset": "重置",
  "close": "关闭",
  "model": "模型",
  "its options": "选项",
  "no second one": "不要第二个",
  "client": "客户端",
  "the last one": "最后一个",
  "not reading": "不在读",
  "half-closed": "已半关闭",
  "source of {}": "{} 的源码",
  "log of {}": "{} 的日志",
  "timeline.ts has ended": "timeline.ts 已经结束",
  "Choose a model, or two, start it, and be its clients.": "选一个或两个模型，启动，然后由你来当客户端。",
  "A client is chosen in this box, or by a click on its lane.": "客户端在这个框里选，或者点它的那一行。",
  "starting": "正在启动",
  "running": "正在运行",
  "stopped": "已停止",
  "stopped, as you have asked": "已按你的要求停止",
  "stopped, as no page was open": "已停止：没有打开的网页",
  "stopped, as the servers have ended": "已停止：服务器自己结束了",
  "everything since the start is shown": "显示启动以来的全部",
  "the last {} s are shown": "显示最近 {} 秒",
  "one moment, the servers are starting": "请稍等，服务器正在启动",
  "unknown model {}": "没有叫 {} 的模型",
  "{} can only be given on the command line, after --": "{} 只能在命令行上给出，写在 -- 之后",
  "no server runs": "没有服务器在运行",
  "{} clients are the most": "最多 {} 个客户端",
  "unknown action {}": "没有 {} 这个动作",
  "client {} is not connected": "客户端 {} 没有连接",
  "client {} has shut down its sending side": "客户端 {} 已经关闭了发送方向",
  "client {} has not got back enough of what it sent": "客户端 {} 发出去的，还有太多没有收回来",
};

export type Phrase = keyof typeof chinese;

/** A phrase in a language, with a value in the place of its braces. */
export function say(language: Language, phrase: Phrase, value: string | number = "{}"): string {
  return (language === "zh" ? chinese[phrase] : phrase).replace("{}", String(value));
}

/** By experiment, what to look at. */
export const looks = {
  "the fourth waits": {
    en:
      "Client D is accepted and has sent, but waits in line: three threads are taken by three silent clients. When A " +
      "leaves, its thread serves D.",
    zh: "客户端 D 已被接受，也发了消息，却在排队：三个线程被三个不说话的客户端占着。A 一离开，它的线程就来服务 D。",
  },
  "backpressure": {
    en: "Client A sends 16 MiB and reads nothing. When the buffers are full, the server stops receiving: main sleeps " +
      "and uses no CPU. When A reads again, the rest flows, and its reply mark appears.",
    zh:
      "客户端 A 发出 16 MiB，却什么也不读。缓冲区一满，服务器就不再接收：main 睡着，不用 CPU。A 恢复读取，剩下的才流过来，" +
      "然后出现回复收齐的标记。",
  },
  "half-close": {
    en: "Client A sends, then shuts down its sending side while the server still computes. The reply comes all the " +
      "same; then the server reads the end of the stream, and closes.",
    zh: "客户端 A 发了消息，服务器还在计算，它就关掉自己的发送方向。回复照样到达；然后服务器读到流的结尾，关闭连接。",
  },
  "one client computes": {
    en:
      "Client A asks for two seconds of CPU, and B for nothing but an echo. In tasks, B waits until main has computed " +
      "for A. In offload a thread computes, and B is answered at once.",
    zh:
      "客户端 A 要两秒 CPU，B 只要一个回显。在 tasks 里，B 要等 main 为 A 算完；在 offload 里由一个线程计算，B 立刻得到回复。",
  },
} satisfies Partial<Record<Phrase, Words>>;

/** By model, what it is in a few words, and what to look at in its lanes. */
export const abouts: Record<string, { title: Words; look: Words }> = {
  single: {
    title: { en: "one connection, one exchange", zh: "一个连接，一次收发" },
    look: {
      en: "The second client is connected and never accepted; after one exchange the server ends.",
      zh: "第二个客户端连上了，却一直没有被接受；收发一次，服务器就结束。",
    },
  },
  blocking: {
    title: { en: "blocking system calls", zh: "阻塞的系统调用" },
    look: {
      en: "main sleeps in recv for one client; all others stay in the backlog.",
      zh: "main 只为一个客户端睡在 recv 里，其余的都留在积压队列里。",
    },
  },
  processes: {
    title: { en: "a process per connection", zh: "一个连接一个进程" },
    look: { en: "Each process sleeps in read for its own client.", zh: "每个进程只为自己的客户端睡在 read 里。" },
  },
  prefork: {
    title: { en: "processes made beforehand", zh: "预先创建的进程" },
    look: {
      en: "Each process sleeps in accept4 on the same socket, then in recv for one client.",
      zh: "每个进程先在同一个套接字上睡在 accept4 里，然后为一个客户端睡在 recv 里。",
    },
  },
  threads: {
    title: { en: "a thread per connection", zh: "一个连接一个线程" },
    look: {
      en: "Each client waits for the start of its thread, and then has it to itself.",
      zh: "每个客户端先等自己的线程启动，之后独占它。",
    },
  },
  pool: {
    title: { en: "a pool of three threads", zh: "三个线程的线程池" },
    look: {
      en: "Three threads serve three clients; the fourth waits in line until one of them leaves.",
      zh: "三个线程服务三个客户端；第四个排队，等其中一个离开。",
    },
  },
  tasks: {
    title: { en: "a task per connection", zh: "一个连接一个协程" },
    look: {
      en: "One thread serves everyone; when it computes for one client, the others wait.",
      zh: "一个线程服务所有客户端；它为一个计算的时候，其余的都要等。",
    },
  },
  nonblocking: {
    title: { en: "non-blocking system calls", zh: "非阻塞的系统调用" },
    look: {
      en: "The thread never sleeps, and nearly all of its calls find nothing.",
      zh: "线程从不睡眠，而且几乎所有调用都是白问。",
    },
  },
  select: {
    title: { en: "select(2)", zh: "select(2)" },
    look: {
      en: "main sleeps in pselect6 for all clients at once; each call copies a bit for every descriptor.",
      zh: "main 睡在 pselect6 里，同时等所有客户端；每次调用都要为每个描述符拷贝一位。",
    },
  },
  poll: {
    title: { en: "poll(2)", zh: "poll(2)" },
    look: {
      en: "main sleeps in poll for all clients at once; each call copies a list of them.",
      zh: "main 睡在 poll 里，同时等所有客户端；每次调用都要拷贝一份客户端的列表。",
    },
  },
  epoll: {
    title: { en: "epoll(7)", zh: "epoll(7)" },
    look: {
      en: "main sleeps in epoll_wait; the kernel has the list, and returns only the ready ones.",
      zh: "main 睡在 epoll_wait 里；列表在内核手里，只交出已经就绪的。",
    },
  },
  signals: {
    title: { en: "signal-driven I/O", zh: "信号驱动 I/O" },
    look: {
      en: "main sleeps in rt_sigtimedwait, and takes one signal for each event.",
      zh: "main 睡在 rt_sigtimedwait 里，一个事件取一个信号。",
    },
  },
  uring: {
    title: { en: "io_uring(7)", zh: "io_uring(7)" },
    look: {
      en: "io_uring_enter is the only call: it submits requests, and waits for completions.",
      zh: "只有 io_uring_enter 这一种调用：它提交请求，也等待完成。",
    },
  },
  coroutines: {
    title: { en: "coroutines by hand, over epoll(7)", zh: "手写的协程，建在 epoll(7) 上" },
    look: {
      en: "main alone sleeps in epoll_wait; each client has a coroutine, parked until its descriptor is ready.",
      zh: "只有 main 睡在 epoll_wait 里；每个客户端有一个协程，挂起着，等自己的描述符就绪。",
    },
  },
  multiplex: {
    title: { en: "I/O multiplexing by the runtime's event loop", zh: "借运行时的事件循环做 I/O 多路复用" },
    look: {
      en: "One loop waits for all clients, and handles the ready ones one after the other.",
      zh: "一个循环等所有客户端，就绪的一个接一个处理。",
    },
  },
  reuseport: {
    title: { en: "an event loop per core", zh: "一个核一个事件循环" },
    look: {
      en: "Each loop accepts for itself; the kernel chooses one by a hash of the addresses.",
      zh: "每个循环自己接受连接；由内核按地址的哈希挑一个循环。",
    },
  },
  reactors: {
    title: { en: "main and sub reactors", zh: "主从 Reactor" },
    look: {
      en: "main only accepts; the loops get the clients in turn.",
      zh: "main 只负责 accept，轮流把客户端交给各个循环。",
    },
  },
  offload: {
    title: { en: "a loop that hands work away", zh: "把计算交出去的循环" },
    look: {
      en: "Threads compute for any client, and main stays free to serve the others.",
      zh: "哪个线程都可以为任何客户端计算，main 始终空着，可以服务其余的。",
    },
  },
};

/** The words in the pictures, which are English, for who reads Chinese. */
export const glossary =
  "connecting 正在连接；in the backlog 在积压队列里，还没有被接受；waits for a thread 已被接受，排队等线程；" +
  "sent a message, which waits its turn 消息已发出，等着轮到；is being served 正在得到服务；does not read 不在读；" +
  "half-closed 已半关闭：不再发，还在读；says nothing 连着，不说话；works for client #N 正在为客户端 #N 工作；" +
  "runs, for no client 在运行，但不是为某个客户端；asleep, for one client 睡着，只等一个客户端；asleep, until something comes " +
  "睡着，谁来都会醒；it sends 在这里发送；it has the whole reply 到这里收齐了回复；waited 一共等了多久；hands over、gets back " +
  "每次调用交给内核、从内核拿回多少位（bits）、条目（entries）、请求（requests），其中多少就绪（ready）、完成（completed）或是信号（signals）。";
