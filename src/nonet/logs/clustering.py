"""First version of the canonical clustering of shapes; replaced soon."""
from __future__ import annotations
import re
from dataclasses import dataclass
from collections import defaultdict, namedtuple
from functools import lru_cache
from hashlib import blake2b
import numpy as np
from nonet.logs.shape import Shape, Kind
@dataclass(frozen=True, slots=True)
class Clustering:
    labels: np.ndarray
    templates: list[str]
    regions: list[list[tuple[int, int]]]

CFG=dict(first=12,other=6,prep=3,noun=2,rounds=6,quoted=True,emptykey=True)
HARD=rb',;|"\'()\[\]{}<>=!?`'
# tokens: word segment (may hold W), colon, hard delimiter
PIECE=re.compile(rb'[^ :'+HARD+rb']+|[:'+HARD+rb']')
W=b'\x01'
UNIT=b'\x02'
UNITS=frozenset(b'B KB MB GB TB kB KiB MiB GiB TiB bytes'.split()[:-1])
BOOL=frozenset(b'true false True False TRUE FALSE'.split())
@lru_cache(1<<16)
def cut(seg):
    a=seg.index(1); b=seg.rindex(1)+1
    m=re.search(rb'(?:[^+#/.\-_*~]|[.\-_*~](?![.\-_*~]))*$',seg[:a])
    a=m.start()
    m=re.match(rb'(?:-(?![A-Za-z])|\.(?!\.)|[^+#/\-.])*',seg[b:]); b+=m.end()
    return a,b
@lru_cache(1<<16)
def id_const(text,before,after,start):
    if before==b'=': return False
    m=re.fullmatch(rb'[A-Za-z_]+([0-9]+)([A-Za-z_]*)',text)
    if not m: return False
    if after in(b':',b'=') or start: return True
    return len(m.group(1))<=1
STOP=frozenset(b' \x18,;|"\'()[]{}<>=!?`')
TRANS=bytes([W[0] if i<0x20 and i!=0x18 else (32 if i==0x18 else i) for i in range(256)])
def view(sh):
    masked=sh.masked
    v=masked.translate(TRANS)
    subs=None
    if any(sh.constants):
        k=0; subs={}
        vb=bytearray(v)
        for i,c in enumerate(masked):
            if c<0x20:
                con=sh.constants[k]; k+=1
                if con is None: continue
                if c==Kind.ID:
                    a=i
                    while a>0 and masked[a-1] not in STOP: a-=1
                    b=i+1
                    while b<len(masked) and masked[b] not in STOP: b+=1
                    if sum(x<0x20 for x in masked[a:b])>1: continue
                    if id_const(con,masked[i-1:i],masked[i+1:i+2],i==0): vb[i]=0x14; subs[i]=con
                elif c==Kind.HOST:
                    if masked[i+1:i+2] in(b'[',b'{',b'(',b'=') or masked[i+1:i+3]==b' =': vb[i]=0x14; subs[i]=con
        v=bytes(vb)
    return v,subs
def datey(z): return all(c in b'\x15\x01\x0e\x0f \x18' for c in z)
def skeleton(sh):
    """-> tokens (bytes, leading blank included), spans"""
    v,subs=view(sh); masked=sh.masked
    toks=[];sp=[]
    end=0
    for m in PIECE.finditer(v):
        s,e=m.span(); t=m.group(); blank=b' ' if s>end and toks else b''
        # blank before?
        gap = s>end
        if 1 in t:
            a,b=cut(t)
            if a:
                toks.append(blank+lit(t[:a],s,subs)); sp.append((s,s+a)); blank=b''
            # fuse with previous
            if not a and len(toks)>=1 and fuse(toks,sp,blank,masked,s,s+b):
                pass
            else:
                toks.append(blank+W); sp.append((s+a,s+b))
            if b<len(t): toks.append(lit(t[b:],s+b,subs)); sp.append((s+b,e))
        else:
            if subs and b'\x14' in t: t=lit(t,s,subs)
            if t in UNITS and blank and toks[-1][-1]==1: t=UNIT
            elif t in BOOL: t=W
            toks.append(blank+t); sp.append((s,e))
        end=e
    return values(toks,sp)
def lit(t,s,subs):
    if b'\x14' in t:
        out=b''
        for j,c in enumerate(t): out+=subs[s+j] if c==0x14 else t[j:j+1]
        return out
    return t
def fuse(toks,sp,blank,masked,s,e):
    last=toks[-1]
    if blank:
        if last[-1:]==W:
            a,b=sp[-1]; x=masked[a:b]; y=masked[s:e]
            if (x[-1:]==b'\x0f' and y[:1]==b'\x0e') or ((21 in x or 21 in y) and datey(x) and datey(y)):
                sp[-1]=(a,e); return True
        return False
    if last==b':' and len(toks)>1 and toks[-2][-1:]==W:
        toks.pop(); sp.pop(); sp[-1]=(sp[-1][0],e); return True
    return False
OPEN=frozenset(b'"\'([{<`'); 
PAIR={b'(':b')',b'[':b']',b'{':b'}',b'"':b'"',b"'":b"'",b'<':b'>',b'`':b"'"}
def values(toks,sp):
    out=[];osp=[]
    i=0;n=len(toks)
    while i<n:
        t=toks[i]; out.append(t); osp.append(sp[i]); i+=1
        if t==b'=' and i>=2 and toks[i-2][-1:] not in (b'=',b'!',b'<',b'>',b':',b')'):
            # glued value
            if i<n and toks[i][:1] not in b' ' and toks[i][0] not in HARDSET:
                j=i
                while j<n and toks[j][:1]!=b' ' and toks[j][0] not in HARDSET: j+=1
                while j>i+1 and toks[j-1]==b':': j-=1
                out.append(W); osp.append((sp[i][0],sp[j-1][1])); i=j
            elif CFG['emptykey'] and (i==n or toks[i][:1]==b' ') and (i==n or (i+1<n and toks[i+1]==b'=')) and (i<n or sum(x==b'=' for x in toks)>1):
                out.append(W); osp.append((sp[i-1][1],sp[i-1][1]))
        elif t.strip(b' ') in PAIR and i<n and toks[i]==PAIR[t.strip(b' ')] and (t[:1]==b' ' or t!=b'('):
            out.append(b''); osp.append((sp[i-1][1],sp[i-1][1]))
        elif CFG['quoted'] and t[-1:] in (b'"',b"'",b'`') and i+1<n and toks[i+1]==PAIR[t[-1:]] and toks[i][:1]!=b' ' and toks[i][0] not in HARDSET and (len(t)==2 or i==1):
            out.append(W); osp.append(sp[i]); i+=1
    return out,osp
HARDSET=frozenset(b',;|"\'()[]{}<>=!?`')
PREP=frozenset(b'for from by at on via of with as in'.split())
NOUN=frozenset(b'user process class type driver device interface host state module domain file name service package command job task node server account daemon program reason status application object method group queue thread table volume filesystem partition member client id'.split())
LETTERS=re.compile(rb'[A-Za-z]{2,}')
def decide(vals,row,p,tok):
    """vals: set of tokens at p; row: list of tokens"""
    vs=[x.strip(b' ') for x in vals]
    nw=sum(x in(W,b'') for x in vs)
    if any(len(x)==1 and x in b':,;|"\'()[]{}<>=!?`' for x in vs): return False
    n=len(vs)
    nxt=row[p+1] if p+1<len(row) else b' '
    if nxt in(b'=',b'(',W) or nxt==b' =' : return False
    if len({x[:1]==b' ' for x in vals})>1: return False
    lits=[x for i,x in enumerate(row) if i!=p and LETTERS.search(x)]
    if not lits: return False
    if nw: return n>=2
    idish=sum(bool(re.search(rb'[0-9]',x)) for x in vs)
    if idish>=2 and idish*2>=n: return True
    before=[x for x in row[:p] if LETTERS.search(x)]
    if not before: return n>=CFG['first'] and len(lits)>=2
    prev=row[p-1].strip(b' ').lower()
    if prev in NOUN: return n>=CFG['noun']
    if prev in PREP: return n>=CFG['prep']
    return n>=CFG['other']
def h64(b): return int.from_bytes(blake2b(b,digest_size=8).digest(),'little')
def mix(x):
    x=x.copy(); x^=x>>np.uint64(30); x*=np.uint64(0xbf58476d1ce4e5b9); x^=x>>np.uint64(27); x*=np.uint64(0x94d049bb133111eb); x^=x>>np.uint64(31); return x
def generalise(rows):
    """rows: list of distinct token tuples of one length -> list of tuples generalised"""
    rows=[list(r) for r in rows]
    L=len(rows[0])
    if L<2 or len(rows)<2: return rows
    hc={}
    for _ in range(CFG['rounds']):
        uniq={}
        inv=[uniq.setdefault(tuple(r),len(uniq)) for r in rows]
        U=list(uniq)
        if len(U)<2: break
        H=np.empty((len(U),L),np.uint64)
        for i,r in enumerate(U):
            for j,t in enumerate(r):
                h=hc.get(t)
                if h is None: h=hc[t]=h64(t)
                H[i,j]=h
        salt=mix(np.arange(1,L+1,dtype=np.uint64)*np.uint64(0x9e3779b97f4a7c15))
        with np.errstate(over='ignore'):
            M=mix(H+salt); tot=M.sum(1,dtype=np.uint64)
        change=[]
        for p in range(L):
            key=tot-M[:,p]
            o=np.argsort(key,kind='stable'); k=key[o]
            b=np.flatnonzero(np.r_[True,k[1:]!=k[:-1]]); e=np.r_[b[1:],len(k)]
            for x in np.flatnonzero(e-b>=2):
                idx=o[b[x]:e[x]]
                vals={U[i][p] for i in idx}
                if decide(vals,U[idx[0]],p,None):
                    for i in idx: change.append((i,p))
        if not change: break
        V=[list(u) for u in U]
        for i,p in change: V[i][p]=(b' ' if V[i][p][:1]==b' ' else b'')+W
        rows=[V[inv[k]] for k in range(len(rows))]
    return rows
def render(row,units):
    """-> text, list of (first,last) token ranges for regions"""
    rng=[]
    i=0;n=len(row)
    for i,t in enumerate(row):
        u=t.strip(b' ')
        if u==W: rng.append([i,i])
        elif u==UNIT and i in units: 
            if rng and rng[-1][1]==i-1: rng[-1][1]=i
            else: rng.append([i,i])
    # fuse glued : . and quotes
    out=[]
    for r in rng:
        if out:
            gap=row[out[-1][1]+1:r[0]+1]
            if (len(gap)==2 and gap[0] in(b':',) and gap[1]==W) or (len(gap)==1 and gap[0]==W): out[-1][1]=r[1]; continue
        out.append(r)
    for r in out:
        a,b=r
        if a>0 and b+1<n and row[a-1] in(b' "',b" '",b' `') and row[b+1] in(b'"',b"'") and (b+2==n or row[b+2][:1]==b' '): r[0]-=1; r[1]+=1
        elif a>0 and row[a-1] in (b' #',) and (b+1==n or row[b+1][:1]==b' '): r[0]-=1
    return out
def settle(shapes):
    sk=[skeleton(s) for s in shapes]
    buckets=defaultdict(dict)
    for i,(t,_) in enumerate(sk): buckets[len(t)].setdefault(tuple(t),[]).append(i)
    labels=np.zeros(len(shapes),np.int32); templates=[]; index={}; regions=[None]*len(shapes)
    for L,b in buckets.items():
        keys=list(b)
        gen=generalise(keys) if L else [()]
        groups=defaultdict(list)
        for k,g in zip(keys,gen): groups[tuple(g)]+=b[k]
        for g,members in groups.items():
            units={}
            for p,t in enumerate(g):
                if t.strip(b' ')==UNIT:
                    vals={shapes[i].masked[sk[i][1][p][0]:sk[i][1][p][1]] for i in members}
                    units[p]=None if len(vals)>1 else next(iter(vals))
            rng=render(g,{p for p,v in units.items() if v is None})
            text=b'';pos=0
            for a,e in rng:
                text+=b''.join(plain(g,p,units) for p in range(pos,a))
                text+=(b' ' if g[a][:1]==b' ' else b'')+b'<*>'
                pos=e+1
            text+=b''.join(plain(g,p,units) for p in range(pos,len(g)))
            text=text.strip().decode('latin-1')
            lab=index.setdefault(text,len(index))
            for i in members:
                labels[i]=lab; sp=sk[i][1]
                regions[i]=[(sp[a][0],sp[e][1]) for a,e in rng]
    return Clustering(labels,list(index),regions)
def plain(g,p,units):
    if p in units: return b' '+units[p]
    return g[p]
